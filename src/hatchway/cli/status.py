"""`hatchway status`: what runs, and how well."""

from __future__ import annotations

import click

from hatchway.cli import options
from hatchway.cli.printing import cross, print_data, tick


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
    """Say what runs and how well. Exit code 0: ready; 1: not ready; 3: not running."""
    import asyncio

    from hatchway.cluster import lifecycle, report
    from hatchway.cluster.state import StateDir

    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    found = asyncio.run(report.gather(state))
    if output == "name":
        print(found["name"])
    elif output != "text":
        print_data(found, output)
    elif not found["running"] and not state.config_file.exists():
        missing = lifecycle.missing(state)
        print(f"{missing.message}\n  {missing.hint}")
    elif not found["running"]:
        print(f'cluster "{name}" is not running')
    elif "server" not in found:
        print(f'cluster "{name}": {found["error"]}')
    else:
        _show(found)
    ctx.exit(0 if found["ready"] else 1 if found["running"] else 3)


def _show(found: dict[str, object]) -> None:
    def mark(ready: object) -> str:
        return tick() if ready else cross()

    print(f"  {mark(found['healthy'])} API server      {found['server']}   process {found['pid']}")
    if error := found.get("error"):
        print(f"                    {error}")
    for label, key, columns in (
        ("node", "nodes", ("name", "address", "pods")),
        ("built-in", "built_in", ("name", "url")),
    ):
        rows: list[dict[str, object]] = found[key]  # type: ignore[assignment]
        widths = [max((len(str(row[column])) for row in rows), default=0) for column in columns]
        for row in rows:
            cells = [str(row[column]).ljust(width) for column, width in zip(columns, widths, strict=True)]
            print(f"  {mark(row['ready'])} {label:<15} {'   '.join(cells)}{' pods' if 'pods' in row else ''}".rstrip())
    print(f"    network         {found['network']}")
    print(f"    memory          {found['memory_mib']} MiB in {found['processes']} processes")
    print(f"    state           {found['state']}")
