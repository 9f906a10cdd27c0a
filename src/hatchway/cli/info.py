"""`hatchway info`: what `kubectl cluster-info` prints, without kubectl, for any cluster."""

from __future__ import annotations

import click

from hatchway.cli import options
from hatchway.cli.printing import print_data


@click.command(
    short_help="Print the URLs of a cluster's built-in services.",
    epilog=options.examples("""
    hatchway info
    hatchway info --context production -o json
    """),
)
@options.of_cluster
@options.output("text", "name", "json", "yaml")
def info(kubeconfig: str | None, context: str | None, name: str | None, output: str) -> None:
    """Print where a cluster's built-in services are reached."""
    import asyncio

    from hatchway.kube import clusterinfo

    server, services = asyncio.run(clusterinfo.gather(kubeconfig, options.context_of(name, context)))
    if output == "name":
        for service in services:
            print(service.name)
    elif output != "text":
        found = [{"name": service.name, "url": service.url} for service in services]
        print_data({"server": server, "services": found}, output)
    else:
        print(f"Kubernetes control plane is running at {server}")
        for service in services:
            print(f"{service.name} is running at {service.url}")
