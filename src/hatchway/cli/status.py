"""`hatchway status`: what runs, and how well."""

from __future__ import annotations

import json

import typer

from hatchway.cli.options import Format, Name, Output, StatePath, tick
from hatchway.cluster import lifecycle
from hatchway.cluster.state import DEFAULT_NAME, StateDir


def status(name: Name = DEFAULT_NAME, state_dir: StatePath = None, output: Output = Format.text) -> None:
    """Say what runs and how well. Exit code 0: ready; 1: not ready; 3: not running."""
    import asyncio

    from hatchway.cluster import report

    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    found = asyncio.run(report.gather(state))
    if output is Format.json:
        print(json.dumps(found, indent=2))
    elif not found["running"] and not state.config_file.exists():
        missing = lifecycle.missing(state)
        print(f"{missing.message}\n  {missing.hint}")
    elif not found["running"]:
        print(f'cluster "{name}" is not running')
    elif "server" not in found:
        print(f'cluster "{name}": {found["error"]}')
    else:
        _show(found)
    raise typer.Exit(0 if found["ready"] else 1 if found["running"] else 3)


def _show(found: dict[str, object]) -> None:
    def mark(ready: object) -> str:
        return tick() if ready else "✗" if tick() == "✓" else "no"

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
