"""`hatchway info`: what `kubectl cluster-info` prints, without kubectl, for any cluster."""

from __future__ import annotations

import json

from hatchway.cli.options import Context, Format, Kubeconfig, OfName, Output, context_of


def info(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    name: OfName = None,
    output: Output = Format.text,
) -> None:
    """Print where a cluster's built-in services are reached."""
    import asyncio

    from hatchway.kube import clusterinfo

    server, services = asyncio.run(clusterinfo.gather(kubeconfig, context_of(name, context)))
    if output is Format.json:
        found = [{"name": service.name, "url": service.url} for service in services]
        print(json.dumps({"server": server, "services": found}, indent=2))
        return
    print(f"Kubernetes control plane is running at {server}")
    for service in services:
        print(f"{service.name} is running at {service.url}")
