"""`hatchway down`: end an embedded cluster."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from hatchway.cli.options import Name, StatePath
from hatchway.cluster import lifecycle
from hatchway.cluster.state import DEFAULT_NAME, StateDir
from hatchway.errors import HatchwayError


def down(
    name: Name = DEFAULT_NAME,
    state_dir: StatePath = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what it has kept, too.")] = False,
) -> None:
    """End a cluster; what it has kept stays for the next `up`."""
    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    if not state.path.is_dir() and state.starter() is None:
        missing = lifecycle.missing(state)
        print(f"{missing.message}\n  {missing.hint}")
        return
    stopped = lifecycle.stop(state)
    lifecycle.restore_kubeconfig(state)
    ephemeral = False
    # What is damaged must not keep anybody from ending it, or from deleting it.
    with contextlib.suppress(HatchwayError):
        ephemeral = (config := state.load_config()) is not None and config.ephemeral
    print(f'cluster "{name}" ' + ("stopped" if stopped else "was not running"))
    if delete or ephemeral:
        lifecycle.delete(state)
        print(f"removed {state.path}")
