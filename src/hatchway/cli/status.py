"""`hatchway status`: prints the state of an embedded cluster."""

from __future__ import annotations

from typing import Any

import click

from hatchway.cli import options
from hatchway.cli.printing import aligned, counted, cross, print_data, size, tick
from hatchway.printable import printable


@click.command(
    epilog=options.examples("""
    hatchway status
    hatchway status -o json
    until hatchway status >/dev/null; do sleep 1; done
    """)
)
@options.own_name
@options.state_dir
@options.output("text", "name", "json", "yaml")
@click.pass_context
def status(ctx: click.Context, name: str, state_dir: str | None, output: str) -> None:
    """Print the state of a cluster. Exit code 0: ready; 1: not ready; 3: not running."""
    import asyncio

    from hatchway.cluster import inventory, statusreport
    from hatchway.cluster.state import StateDir

    state = StateDir.for_name(inventory.check_name(name), state_dir)
    found = asyncio.run(statusreport.gather(state))
    if output == "name":
        print(found["name"])
    elif output != "text":
        print_data(found, output)
    elif not found["running"] and not state.config_file.exists():
        missing = inventory.missing(state)
        print(f"{missing.message}\n  {missing.hint}")
    elif not found["running"]:
        print(f'cluster "{name}" is not running\n  `{inventory.command("up", state)}` starts it')
        _show_settings(found)
    elif "server" not in found:
        print(printable(f'cluster "{name}": {found["error"]}'))
    else:
        _show(found)
    ctx.exit(0 if found["ready"] else 1 if found["running"] else 3)


def _show(found: dict[str, Any]) -> None:
    from hatchway.cluster.settingsreport import describe_egress

    def mark(ready: object) -> str:
        return tick() if ready else cross()

    def mark_row(row: dict[str, Any]) -> str:
        return "-" if row.get("starts_on_first_use") else mark(row["ready"])

    print(f"  {mark(found['healthy'])} API server      {found['server']}   process {found['pid']}")
    if error := found.get("error"):
        print(f"                    {printable(error)}")
    nodes = [{**node, "pods": counted(node["pods"], "pod")} for node in found["nodes"]]
    services = [
        {**one, "when": "starts on first use" if one["starts_on_first_use"] else ""} for one in found["built_in"]
    ]
    for label, rows, columns in (
        ("node", nodes, ("name", "address", "pods")),
        ("built-in", services, ("name", "url", "when")),
    ):
        table = [[str(row[column]) for column in columns] for row in rows]
        for row, line in zip(rows, aligned(table), strict=True):
            print(f"  {mark_row(row)} {label:<15} {line}")
    disk = found["disk"]
    if disk["problem"] or disk["low"]:
        told = (
            f": {printable(disk['problem'])}"
            if disk["problem"]
            else ", and changes cannot be stored when it is full; `hatchway image prune --all` removes unused images"
        )
        print(f"  {mark(not disk['problem'])} disk            {size(disk['free_bytes'])} free{told}")
    print(f"    network         {found['network']}")
    if egress := found["egress"]:
        print(f"    egress          {printable(describe_egress(egress, to_host=found.get('egress_to_host', False)))}")
    if found["no_policies"]:
        print(f"    policies        network policies are not enforced: {printable(found['no_policies'])}")
    _show_settings(found)
    print(f"    users           {printable(found['users'])}")
    print(f"    resources       {printable(found['resources'])}")
    print(f"    memory          {found['memory_mib']} MiB in {counted(found['processes'], 'process')}")
    print(f"    state           {found['state']}")


def _show_settings(found: dict[str, Any]) -> None:
    from hatchway.cluster import settingsreport

    # Without a configuration there are no settings.
    if "host_paths" in found:
        for label, text in settingsreport.lines(found):
            print(f"    {label:<15} {printable(text)}")
