"""The control plane's process: takes the lock, runs the cluster (`controlplane.py`), and ends it on a signal.

It reports its progress as JSON lines on standard output, which `lifecycle.py` reads. The process ends on SIGTERM or
SIGINT. An attached control plane also ends when its standard input or its parent process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from hatchway.cluster import descriptors, kubecontext
from hatchway.cluster.controlplane import ControlPlane
from hatchway.cluster.process import KEEP, Process
from hatchway.cluster.progress import report
from hatchway.cluster.state import Holder, StateDir
from hatchway.cluster.watchdog import Watchdog
from hatchway.errors import HatchwayError
from hatchway.files import NO_ROOM
from hatchway.removal import remove_path

logger = logging.getLogger("hatchway.cluster")


def main(path: Path, *, attached: bool) -> int:
    """Run the control plane of the cluster whose state is in `path`. Return the process's exit code."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    descriptors.raise_limit()
    state = StateDir(path)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(state, attached))
    except HatchwayError as error:
        logger.error("%s", error.message)
        report("error", message=error.message, hint=error.hint)
        return 1
    except OSError as error:
        # Most likely a file of the state directory: the disk is full, or the file belongs to another user.
        logger.exception("the control plane has failed")
        message = f"cannot use {error.filename or path}: {error.strerror or error}"
        report("error", message=message, hint="" if error.errno in NO_ROOM else f"see {state.server_log}")
        return 1
    except Exception as error:
        logger.exception("the control plane has failed")
        message = f"the control plane has failed: {type(error).__name__}: {error}"
        report("error", message=message, hint=f"see {state.server_log}")
        return 1
    return 0


async def _run(state: StateDir, attached: bool) -> None:
    config = state.load_config()
    if config is None:
        raise HatchwayError(f"{state.path} holds no cluster", "start it by `hatchway up`")
    lock = await _lock(state)
    holder = Holder(Process.of(os.getpid()))
    state.note(lock, holder)
    # A control plane that was killed leaves this file; another process may have its process id by now.
    state.run_file.unlink(missing_ok=True)
    ending = _Ending(state, lock, holder)
    watchdog = Watchdog()
    watchdog.start()
    try:
        ending.listen(attached)
        async with ControlPlane(state, config).running(ending.on_network_started) as failed:
            failed.add_done_callback(lambda _: ending.begin())
            await ending.wait()
            # Without this file, the cluster does not count as running.
            state.run_file.unlink(missing_ok=True)
            if failed.done():
                raise HatchwayError(f"the cluster cannot go on: {failed.result()}", f"see {state.node_log}")
    except asyncio.CancelledError:
        raise HatchwayError(f'cluster "{state.path.name}" was stopped while it was starting') from None
    finally:
        watchdog.stop()
        state.run_file.unlink(missing_ok=True)
        try:
            # The process that started this one normally restores the kubeconfig, but it may have been killed.
            kubecontext.restore_kubeconfig(state)
        except (HatchwayError, OSError) as error:
            logger.error("the kubeconfig was not restored: %s", error)
        if config.ephemeral:
            with contextlib.suppress(OSError):
                remove_path(state.path)
        os.close(lock)


class _Ending:
    """Ends a control plane on a signal; when attached, also at the end of standard input or of the parent process."""

    def __init__(self, state: StateDir, lock: int, holder: Holder) -> None:
        self._state = state
        self._lock = lock
        self._holder = holder
        self._begun = asyncio.Event()
        self._parent = -1
        self._starting: asyncio.Task[Any] | None = asyncio.current_task()

    def listen(self, attached: bool) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin)
        if attached:
            loop.add_reader(sys.stdin.fileno(), self._check_parent)
            # The other end of standard input may have been inherited by children of the parent process (`os.fork`),
            # which then keep it open after the parent's end.
            with contextlib.suppress(OSError, AttributeError):
                self._parent = os.pidfd_open(os.getppid())
                loop.add_reader(self._parent, self._check_parent)

    def _check_parent(self) -> None:
        """End an attached control plane with its parent process, unless it was told to continue (`Running.keep`)."""
        loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()
        readable, _, _ = select.select([stdin], [], [], 0)
        said = os.read(stdin, 64) if readable else b""
        if said and said != KEEP:
            return
        loop.remove_reader(stdin)
        if self._parent >= 0:
            loop.remove_reader(self._parent)
        if not said:
            self.begin()

    def on_network_started(self, pid: int) -> None:
        """Record the network's first process, so that `hatchway down` finds it even after this process was killed."""
        if pid:
            self._holder = replace(self._holder, network=Process.of(pid))
            self._state.note(self._lock, self._holder)

    def begin(self) -> None:
        """Ask the control plane to end. Idempotent: a second signal does not interrupt the end."""
        if self._begun.is_set():
            return
        self._begun.set()
        self._holder = replace(self._holder, stopping=True)
        # `hatchway down` waits longer for a process that has recorded the signal.
        self._state.note(self._lock, self._holder)
        if self._starting is not None:
            self._starting.cancel()

    async def wait(self) -> None:
        """Wait until the control plane must end. Call this after everything was started."""
        self._starting = None
        await self._begun.wait()


async def _lock(state: StateDir) -> int:
    """Return the cluster's lock.

    Another process may hold the lock for a moment while it checks whether the cluster runs. So try a few times.
    """
    for _ in range(20):
        descriptor = state.lock()
        if descriptor is not None:
            return descriptor
        await asyncio.sleep(0.05)
    raise HatchwayError(f'cluster "{state.path.name}" runs already', "`hatchway status` shows its state")
