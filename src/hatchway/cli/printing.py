"""How commands print: lines at once, tables, JSON and YAML."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click


def say(text: str) -> None:
    """Print a line at once. A reader that has left (`| head`) does not end what was begun."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
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


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with their columns three blanks apart, as kubectl's."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def print_table(table: Sequence[Sequence[str]]) -> None:
    """Print the rows; the first is the header."""
    for line in aligned(table):
        print(line)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    click.echo(f"warning: {text}", err=True)
