"""`hatchway forward`: says that port-forward streams are not part of this version."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("target")
@click.option("--namespace", "-n", default="default", help="The target's namespace.")
def forward(target: str, namespace: str) -> None:
    """Not part of this version."""
    from hatchway.errors import HatchwayError
    from hatchway.target import format_argument, parse_argument

    found = parse_argument(target, namespace)
    kind_and_name, _, port = format_argument(found).partition(":")
    scope = f" -n {found.namespace}" if found.namespace else ""
    raise HatchwayError(
        "this version has no port-forward streams",
        f"kubectl port-forward{scope} {kind_and_name} :{port or 'PORT'} does it against a cluster that has them",
    )
