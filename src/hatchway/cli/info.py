"""`hatchway info`: prints the URLs of a cluster's built-in services, as `kubectl cluster-info` does."""

from __future__ import annotations

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.printing import print_data
from hatchway.cli.usage import GoFlagsCommand
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable


@click.command(
    cls=GoFlagsCommand,
    short_help="Print the URLs of a cluster's built-in services.",
    epilog=options.examples("""
    hatchway info
    hatchway info --context production -o json
    """),
)
@clusterflags.cluster_options
@clusterflags.unused_namespace
@options.output("text", "name", "json", "yaml")
def info(output: str, cluster: ChosenCluster) -> None:
    """Print the URLs of a cluster's built-in services."""
    import asyncio

    from hatchway.kube import clusterinfo

    server, services = asyncio.run(clusterinfo.gather(*cluster))
    if output == "name":
        for service in services:
            print(printable(service.name))
    elif output != "text":
        found = [service.as_dict() for service in services]
        print_data({"server": server, "services": found}, output)
    else:
        print(printable(f"Kubernetes control plane is running at {server}"))
        for service in services:
            print(printable(f"{service.name} is running at {service.url}"))
