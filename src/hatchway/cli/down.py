"""`hatchway down`: stops an embedded cluster."""

from __future__ import annotations

import contextlib

import click

from hatchway.cli import options


@click.command(
    short_help="Stop a cluster; its objects and data are kept.",
    epilog=options.examples("""
    hatchway down                     # `hatchway up` starts it again with its objects and data
    hatchway down --delete            # also delete its objects and data
    hatchway down --name test
    """),
)
@options.own_name
@options.state_dir
@click.option("--delete", is_flag=True, help="Also delete its objects and data.")
def down(name: str, state_dir: str | None, delete: bool) -> None:
    """Stop a cluster. Its objects and data are kept for the next `up`, unless it was started with --ephemeral."""
    from hatchway.cluster import commandorder, inventory, lifecycle, settingsreport
    from hatchway.cluster.cleanup import clean_up
    from hatchway.cluster.state import StateDir
    from hatchway.errors import HatchwayError

    state = StateDir.for_name(inventory.check_name(name), state_dir)
    if not state.path.is_dir() and state.starter() is None:
        missing = inventory.missing(state)
        print(f"{missing.message}\n  {missing.hint}")
        return
    with commandorder.ending(state):
        ephemeral = False
        # The cluster must be stopped or deleted even if its configuration file is damaged. The file is read before the
        # stop, because the control plane of an ephemeral cluster then deletes it.
        with contextlib.suppress(HatchwayError):
            ephemeral = (config := state.load_config()) is not None and config.ephemeral
        stopped = lifecycle.stop(state)
        print(f'cluster "{name}" ' + ("stopped" if stopped else "was not running"))
        failure = clean_up(state, delete=delete or ephemeral)
        if delete or ephemeral:
            print(f"removed {state.path}" if delete else settingsreport.removed(state))
        if failure is not None:
            raise failure
