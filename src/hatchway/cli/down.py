"""`hatchway down`: end an embedded cluster."""

from __future__ import annotations

import click

from hatchway.cli import options


@click.command(
    short_help="End a cluster; what it holds is kept.",
    epilog=options.examples("""
    hatchway down                     # what the cluster holds is there again after `hatchway up`
    hatchway down --delete            # and forget what it holds
    hatchway down --name test
    """),
)
@options.own_name
@options.state_dir
@click.option("--delete", is_flag=True, help="Remove what it has kept, too.")
def down(name: str, state_dir: str | None, delete: bool) -> None:
    """End a cluster; what it has kept stays for the next `up`."""
    from hatchway.cluster import lifecycle
    from hatchway.cluster.state import StateDir

    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    if not state.path.exists():
        missing = lifecycle.missing(state)
        print(f"{missing.message}\n  {missing.hint}")
        return
    # What is to be deleted may be damaged.
    ephemeral = not delete and (config := state.load_config()) is not None and config.ephemeral
    stopped = lifecycle.stop(state)
    lifecycle.restore_kubeconfig(state)
    print(f'cluster "{name}" ' + ("stopped" if stopped else "was not running"))
    if delete or ephemeral:
        lifecycle.delete(state)
        print(f"removed {state.path}")
