"""Options that several commands share, and how commands say yes and no."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """How a command prints."""

    text = "text"
    json = "json"


Name = Annotated[str, typer.Option("--name", help="The cluster's name.", envvar="HATCHWAY_NAME")]
StatePath = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        help="Where clusters keep their state.",
        envvar="HATCHWAY_STATE_DIR",
        show_default="~/.local/state/hatchway",
    ),
]
Kubeconfig = Annotated[
    str | None,
    typer.Option("--kubeconfig", help="The kubeconfig file.", show_default="$KUBECONFIG or ~/.kube/config"),
]
Context = Annotated[
    str | None, typer.Option("--context", help="The kubeconfig's context.", show_default="the current one")
]
OfName = Annotated[str | None, typer.Option("--name", help="The embedded cluster of this name; instead of --context.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]

__all__ = [
    "Context",
    "Format",
    "Kubeconfig",
    "Name",
    "OfName",
    "Output",
    "StatePath",
    "context_of",
    "say",
    "tick",
]


def context_of(name: str | None, context: str | None) -> str | None:
    """The kubeconfig's context of an embedded cluster, or the one that was said."""
    if not name:
        return context
    from hatchway.cluster import lifecycle

    return lifecycle.context_name(lifecycle.check_name(name))


def tick() -> str:
    """The mark of what is done, in a form that this terminal can show."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return "✓" if encoding.startswith("utf") else "ok"


def say(text: str) -> None:
    """Print a line at once. That nobody reads any more (`| head`) does not end what was begun."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
