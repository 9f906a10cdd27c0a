"""Lets the commands that start or end one cluster wait for each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from hatchway.cluster import inventory
from hatchway.cluster.serverlog import log_hint
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError

# Seconds to wait for another command that starts or stops the cluster.
_SETTLE_SECONDS = 90.0
_POLL_SECONDS = 0.02


def settle(state: StateDir) -> dict[str, Any] | None:
    """Wait until the cluster is neither starting nor stopping. Return the control plane's record; None if it is down.

    Raises HatchwayError when that takes too long.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while state.running():
        run = state.load_run()
        if run is not None and not state.is_ending():
            return run
        if time.monotonic() > deadline:
            raise _busy(state)
        time.sleep(_POLL_SECONDS)
    return None


@contextlib.contextmanager
def starting(state: StateDir, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Wait for the right to start this cluster. During the block, no other command starts or ends the cluster.

    Args:
        on_wait: called once with the reason, when the block must wait for another command.

    Raises:
        HatchwayError: the other command takes too long.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    told = False
    while True:
        # Check before taking the lock: otherwise `stop` would mistake this waiting start for a start under way. Check
        # once more with the lock: if a start and an end begin at the same time, at least one of them notices the other.
        ends = state.is_ending()
        if not ends:
            with state.starting() as alone:
                ends = state.is_ending()
                if alone and not ends:
                    yield
                    return
        if not told:
            told = True
            on_wait("it is being stopped" if ends else "another `hatchway up` is starting it")
        if time.monotonic() > deadline:
            raise _busy(state)
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def ending(state: StateDir) -> Iterator[None]:
    """Wait for the right to end this cluster. During the block, other commands neither start nor end the cluster.

    Raises:
        HatchwayError: another command has been ending it for too long.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        with state.ending() as alone:
            if alone:
                yield
                return
        if time.monotonic() > deadline:
            raise _busy(state)
        time.sleep(_POLL_SECONDS)


def _busy(state: StateDir) -> HatchwayError:
    return HatchwayError(
        f'cluster "{state.path.name}" has been starting or stopping for {_SETTLE_SECONDS:.0f} s',
        "; ".join(filter(None, (f"`{inventory.command('down', state)}` ends it", log_hint(state)))),
    )
