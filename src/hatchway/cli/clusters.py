"""`hatchway list`: the embedded clusters of this machine."""

from __future__ import annotations

import click

from hatchway.cli import options
from hatchway.cli.printing import print_data, print_table


@click.command(
    "list",
    short_help="List the embedded clusters of this machine.",
    epilog=options.examples("""
    hatchway list
    hatchway list -o json
    hatchway list -o name | xargs -n 1 hatchway down --name
    """),
)
@options.state_dir
@options.output("text", "name", "json", "yaml")
def list_clusters(state_dir: str | None, output: str) -> None:
    """List the embedded clusters of this machine: those that run, with their addresses, and those that are stopped."""
    from hatchway.cluster import inventory

    found = [inventory.summary(state) for state in inventory.known(state_dir)]
    if output == "name":
        for cluster in found:
            print(cluster["name"])
    elif output != "text":
        print_data(found, output)
    elif found:
        for cluster in found:
            if cluster["ephemeral"]:
                cluster["status"] += " (ephemeral)"
        rows = [[str(cluster[key] or "<none>") for key in ("name", "status", "server", "context")] for cluster in found]
        print_table([["NAME", "STATUS", "SERVER", "CONTEXT"], *rows])
    else:
        click.echo("there are no clusters yet; `hatchway up` makes one", err=True)
