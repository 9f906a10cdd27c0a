"""The output of commands: lines that are written at once, tables, JSON and YAML."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import click

from hatchway.printable import printable, printable_lines


def say(text: str) -> None:
    """Print a line at once. A reader that has left (`| head`) does not end what was begun."""
    try:
        print(printable_lines(text), flush=True)
    except BrokenPipeError:
        drop_output()


def drop_output() -> None:
    """Throw away what standard output still holds and gets, which Python would try to write once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tick() -> str:
    """Return the mark of what is done, in a form that this terminal can show."""
    return "✓" if _shows_symbols() else "ok"


def cross() -> str:
    """Return the mark of what is not ready, in a form that this terminal can show."""
    return "✗" if _shows_symbols() else "no"


def _shows_symbols() -> bool:
    return (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")


def print_data(data: Any, output: str) -> None:
    """Print `data` for programs; output: "json" or "yaml"."""
    if output == "json":
        print(json.dumps(data, indent=2))
        return
    import yaml

    # Strings that another YAML reader could take for numbers or dates stay strings: they are quoted as in JSON.
    print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False), end="")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is right: `1 pod`, `2 pods`, `3 processes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def size(number: int) -> str:
    """Return a number of bytes as people read it: `512 KiB`, `3.4 GiB`."""
    shown, unit = float(number), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if shown < 1024:
            break
        shown, unit = shown / 1024, larger
    return f"{shown:.1f} {unit}" if 0 < shown < 10 and unit != "bytes" else f"{shown:.0f} {unit}"


def _shown(table: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[printable(cell, len(cell)) for cell in row] for row in table]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with their columns three blanks apart, as kubectl's."""
    if not table:
        return []
    table = _shown(table)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


_INDENTED: dict[str, Any] = {"initial_indent": "    ", "subsequent_indent": "    ", "break_long_words": False}
# Room for a word in the last column.
_WORD = 12


def fitted(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines that fit the terminal; the last two columns hold a URL and a sentence.

    A cell that is too long stands below its row, so that the terminal breaks no word in its middle. Output that is no
    terminal gets one line for each row.
    """
    table = _shown(table)
    lines = aligned(table)
    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or max(map(len, lines)) <= columns:
        return lines
    first = [list(row[:-1]) for row in table]
    below = [""] * len(table)
    if max(map(len, aligned(first))) + _WORD > columns:
        below = ["", *(row.pop() for row in first[1:])]
        first[0].pop()
    width = max(map(len, aligned(first)))
    out = []
    for row, line, url in zip(table, aligned(first), below, strict=True):
        told = f"{line.ljust(width)}   {row[-1]}".rstrip()
        out += [told] if len(told) <= columns else [line, *textwrap.wrap(row[-1], columns, **_INDENTED)]
        out += [f"    {url}"] if url and url != "<none>" else []
    return out


def print_table(table: Sequence[Sequence[str]]) -> None:
    """Print the rows; the first is the header."""
    for line in aligned(table):
        print(line)


def warn(text: str) -> None:
    """Print a warning on standard error, in one line whatever it quotes."""
    click.echo(f"warning: {printable(text)}", err=True)


def note(text: str) -> None:
    """Print something beside a command's output on standard error, in one line whatever it quotes."""
    click.echo(f"note: {printable(text)}", err=True)


def explained(message: str, hint: str) -> str:
    """Return an error for people: the message in one line whatever it quotes, and the hint's own lines below it."""
    return printable(message) + (f"\n  {printable_lines(hint)}" if hint else "")
