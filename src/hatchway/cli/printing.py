"""Prints the output of commands: lines, tables, JSON and YAML."""

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
    """Print a line and flush it. Do nothing when the reader has closed its end (`| head`): the command continues."""
    try:
        print(printable_lines(text), flush=True)
    except BrokenPipeError:
        drop_output()


def drop_output() -> None:
    """Discard all buffered and later output, which Python would otherwise try to write at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tick() -> str:
    """Return a tick, in a form that this terminal can display."""
    return "✓" if _shows_symbols() else "ok"


def cross() -> str:
    """Return a cross, in a form that this terminal can display."""
    return "✗" if _shows_symbols() else "no"


def _shows_symbols() -> bool:
    return (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")


def print_data(data: Any, output: str) -> None:
    """Print `data` for programs; output: "json" or "yaml"."""
    if output == "json":
        print(json.dumps(data, indent=2))
        return
    import yaml

    # Strings that a YAML parser could read as numbers or dates are quoted.
    print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=False), end="")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural: `1 pod`, `2 pods`, `3 processes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def size(number: int) -> str:
    """Return a number of bytes with a unit: `512 KiB`, `3.4 GiB`."""
    shown, unit = float(number), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if shown < 1024:
            break
        shown, unit = shown / 1024, larger
    return f"{shown:.1f} {unit}" if 0 < shown < 10 and unit != "bytes" else f"{shown:.0f} {unit}"


def _shown(table: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[printable(cell, len(cell)) for cell in row] for row in table]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, with three spaces between columns, as kubectl does."""
    if not table:
        return []
    table = _shown(table)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


_INDENTED: dict[str, Any] = {"initial_indent": "    ", "subsequent_indent": "    ", "break_long_words": False}
# The width of a word in the last column.
_WORD = 12


def fitted(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines that fit the terminal. The last two columns must be a URL and a sentence.

    A cell that is too long is printed below its row, so that the terminal does not break it inside a word. If the
    output is not a terminal, each row is one line.
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
    """Print a warning on standard error, in one line even if it quotes a text with line breaks."""
    click.echo(f"warning: {printable(text)}", err=True)


def complain(message: str, hint: str = "") -> None:
    """Print an error on standard error: the message in one line, and the lines of the hint below it."""
    click.echo(f"hatchway: {explained(message, hint)}", err=True)


def note(text: str) -> None:
    """Print a remark on standard error, in one line even if it quotes a text with line breaks."""
    click.echo(f"note: {printable(text)}", err=True)


def explained(message: str, hint: str) -> str:
    """Return an error for users: the message in one line, and the lines of the hint below it."""
    return printable(message) + (f"\n  {printable_lines(hint)}" if hint else "")
