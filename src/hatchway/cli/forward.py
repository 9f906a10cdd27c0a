"""`hatchway forward`: says that port-forward streams are not part of this version."""

from __future__ import annotations

from typing import Annotated

import typer

from hatchway.errors import HatchwayError
from hatchway.target import format_argument, parse_argument


def forward(
    target: Annotated[str, typer.Argument(help="svc/NAME:PORT, pod/NAME:PORT")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The target's namespace.")] = "default",
) -> None:
    """Not part of this version."""
    found = parse_argument(target, namespace)
    kind_and_name, _, port = format_argument(found).partition(":")
    scope = f" -n {found.namespace}" if found.namespace else ""
    raise HatchwayError(
        "this version has no port-forward streams",
        f"kubectl port-forward{scope} {kind_and_name} :{port or 'PORT'} does it against a cluster that has them",
    )
