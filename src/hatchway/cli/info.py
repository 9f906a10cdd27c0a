"""`hatchway info`: what `kubectl cluster-info` prints, without kubectl, for any cluster."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hatchway.cli.options import Format, Kubeconfig, Output


def info(
    kubeconfig: Kubeconfig = None,
    context: Annotated[
        str | None, typer.Option("--context", help="The kubeconfig's context.", show_default="the current one")
    ] = None,
    output: Output = Format.text,
) -> None:
    """Print where the control plane and the built-in services of a cluster are reached."""
    from hatchway.kube import clusterinfo

    server, services = clusterinfo.gather(kubeconfig, context)
    if output is Format.json:
        found = [{"name": service.name, "url": service.url} for service in services]
        print(json.dumps({"server": server, "services": found}, indent=2))
        return
    print(f"Kubernetes control plane is running at {server}")
    for service in services:
        print(f"{service.name} is running at {service.url}")
