"""Asks the user for consent before a relay pod is made in the cluster."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import click

from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable
from hatchway.route.relayoptions import DEFAULT_IMAGE, ORPHAN_SECONDS, RIGHTS, RelayOptions


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """The options of the command line.

    image: "" for the usual one. namespace: the relay pod's namespace; "" for that of the targets.
    yes: True when the user has already agreed.
    """

    image: str
    namespace: str
    yes: bool


def ask_consent(wanted: RelayRequest, namespace: str | None, cluster: ChosenCluster) -> RelayOptions:
    """Print the relay pod's namespace, image and rights, and ask the user for consent to make it.

    namespace: the value of the option -n; None without that option.

    Raises:
        HatchwayError: the user cannot be asked, because there is no terminal.
        click.Abort: the answer is no.
    """
    from hatchway.kube import contexts

    found = contexts.load(*cluster)
    image = wanted.image or asyncio.run(_usual_image(cluster))
    options = RelayOptions(image, wanted.namespace or namespace or found.namespace)
    for line in describe(options, found.label):
        click.echo(printable(line), err=True)
    if not wanted.yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise HatchwayError("a relay pod is made only with the user's consent", "add --yes to give it")
        click.confirm("Make it?", abort=True, err=True)
    click.echo("Starting it ...", err=True)
    return options


async def _usual_image(cluster: ChosenCluster) -> str:
    from hatchway.kube.connection import Connection
    from hatchway.kube.helperimage import helper_image

    connection = Connection.load(*cluster)
    try:
        return await helper_image(connection.client, DEFAULT_IMAGE)
    finally:
        await connection.aclose()


def describe(options: RelayOptions, label: str) -> list[str]:
    """Return the lines that are printed before the question. label: the cluster's name in them."""
    rights = "; ".join(
        f"{', '.join(verbs)} on {resource}{f'/{part}' if part else ''}" for verbs, resource, part in RIGHTS
    )
    return [
        f"--relay makes a pod in namespace {options.namespace} of {label}:",
        f"  image   {options.image}, unprivileged, without an account of the API",
        f"  rights  yours: {rights}",
        f"  end     with this command; {ORPHAN_SECONDS} s after this command was killed or has lost the cluster",
    ]
