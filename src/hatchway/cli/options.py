"""Options that several commands share, and how commands say yes and no."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from hatchway.cluster.state import DEFAULT_NAME


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
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]

__all__ = ["DEFAULT_NAME", "Format", "Kubeconfig", "Name", "Output", "StatePath", "tick"]


def tick() -> str:
    """The mark of what is done, in a form that this terminal can show."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return "✓" if encoding.startswith("utf") else "ok"
