"""Starts and ends a cluster that belongs to a test process.

The cluster is attached to the process, like the cluster of `hatchway up` in the foreground: when the process ends for
any reason, the cluster ends and deletes its own files.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hatchway.cluster import kubecontext, lifecycle
from hatchway.cluster.process import Process
from hatchway.cluster.serverlog import log_hint, log_tail
from hatchway.cluster.startoptions import Options
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError
from hatchway.images.store.store import store_path
from hatchway.kube import kubeconfig
from hatchway.removal import remove_path

_CONTEXT = "hatchway-test"
_NAME = re.compile(r"hatchway-test-[0-9a-f]{12}")
# Seconds for a clean end. Programs that take longer are killed, because the cluster's data is deleted in any case.
_END_SECONDS = 3.0
# A directory of this age (seconds) without a running cluster counts as abandoned: the cluster's processes were killed.
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """The options for the start of a cluster.

    nodes: the number of workers beside the control plane. addons: the add-ons' names (`cluster/addonnames.py`).
    network: auto, private or loopback.
    """

    nodes: int = 1
    addons: list[str] = field(default_factory=list)
    network: str = "auto"


class OwnCluster:
    """A running cluster of this process.

    kubeconfig: the path of its kubeconfig.
    """

    def __init__(self, running: lifecycle.Running) -> None:
        self._running = running
        self._state = running.state
        # The process is identified by its start time, too, because its id may be used again after its end.
        self._process = Process.of(running.process.pid)
        self.kubeconfig = running.state.path / "kubeconfig"
        self._limits = str(running.run.get("limits") or "")

    @classmethod
    def start(cls, options: LaunchOptions, meanwhile: Callable[[], None] = lambda: None) -> OwnCluster:
        """Start a cluster; return it when the API server answers and the nodes and add-ons are ready.

        Args:
            options: the options of the cluster.
            meanwhile: called when the API server answers, while the nodes become ready.

        Raises:
            HatchwayError: the cluster does not start.
        """
        base = Path(tempfile.gettempdir()).absolute()
        _remove_abandoned(base)
        state = StateDir(base / f"hatchway-test-{secrets.token_hex(6)}")
        wanted = Options(
            api_port=0,
            workers=options.nodes,
            addons=options.addons,
            network=options.network,
            # The user's own store, which has the images that were loaded or pulled before.
            image_store=str(store_path()),
            ephemeral=True,
        )
        try:
            running = lifecycle.start(
                state, wanted, attached=True, progress=lambda event: meanwhile() if event["event"] == "api" else None
            )
        except BaseException:
            _remove(state.path)
            raise
        found = cls(running)
        try:
            if problems := running.run.get("problems"):
                raise HatchwayError(f"the cluster is not ready: {'; '.join(problems)}", log_hint(state))
            kubeconfig.merge(found.kubeconfig, kubecontext.entry(state, _CONTEXT, running.run["server"]))
        except BaseException:
            found.end()
            raise
        return found

    def note(self) -> str:
        """Return a text about the cluster's limits on this machine, or that it has ended; "" without limits."""
        code = self._running.process.poll()
        if code is None:
            return self._limits
        return f"the cluster has ended (exit code {code}){log_tail(self._state)}"

    def end(self) -> None:
        """End the cluster, and remove all its files. Raises HatchwayError when the kernel does not end the process."""
        if self._running.process.poll() is None:
            self._process.send(signal.SIGTERM)
            if not self._process.wait(_END_SECONDS):
                self._process.send(signal.SIGKILL)
        self._running.process.wait()
        self._running.detach()
        lifecycle.end_remains(self._state)
        _remove(self._state.path)

    def keep(self) -> str:
        """Let the cluster continue after this process ends. Return two lines: how to use it, how to end it."""
        self._running.keep()
        path = self._state.path
        return (
            f"export KUBECONFIG={self.kubeconfig}\n"
            f"hatchway down --name {path.name} --state-dir {path.parent}     # ends it and removes its files"
        )


def _remove(path: Path) -> None:
    """Delete a cluster's directory, as far as that is possible."""
    with contextlib.suppress(OSError):
        remove_path(path)


def _remove_abandoned(base: Path) -> None:
    """Remove the files of abandoned clusters: all their processes were killed, and so was their test process."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            if not _NAME.fullmatch(entry.name):
                continue
            # Another process may remove the directory at the same time.
            with contextlib.suppress(OSError, HatchwayError):
                found = entry.stat(follow_symlinks=False)
                old = time.time() - found.st_mtime > _ABANDONED_SECONDS
                if entry.is_dir(follow_symlinks=False) and found.st_uid == os.getuid() and old:
                    state = StateDir(Path(entry.path))
                    if not state.running():
                        _remove(state.path)
