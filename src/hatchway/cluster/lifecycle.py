"""Starts and ends the control plane of an embedded cluster, from another process.

The control plane (`python -m hatchway.cluster`) reports its progress as JSON lines on its standard output. Each line is
an object with the field `event`: "api", "nodes", "removed" (add-ons), "built-in", "first-use" (built-in services that
wait for their first use), "ready" or "error". An attached control plane ends when its standard input is closed, or when
its parent process has ended. After the line `KEEP` on its standard input, it continues in these cases.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from hatchway.cluster.node.config import SHUT_DOWN_SECONDS
from hatchway.cluster.process import KEEP, Process
from hatchway.cluster.serverlog import log_hint, log_tail
from hatchway.cluster.startoptions import Options, configure
from hatchway.cluster.state import ClusterConfig, StateDir
from hatchway.errors import HatchwayError

Progress = Callable[[dict[str, Any]], None]

_POLL_SECONDS = 0.02
# A control plane that has not reacted to SIGTERM after this time (seconds) is killed.
_HEAR_SECONDS = 5.0
# A control plane that has reacted may take as long as its pods, and a little more (seconds).
_STOP_SECONDS = SHUT_DOWN_SECONDS + 20.0
# Seconds that the kernel may need to end processes that were killed.
_KILL_SECONDS = 10.0


class Running:
    """A control plane that this process has started and that is ready."""

    def __init__(self, state: StateDir, process: subprocess.Popen[bytes], run: dict[str, Any]) -> None:
        self.state = state
        self.process = process
        self.run = run

    def wait(self) -> int:
        """Wait until the control plane ends, and return its exit code."""
        return self.process.wait()

    def stop(self) -> None:
        """End the control plane, by SIGKILL if it does not react. Raises HatchwayError when it cannot be ended."""
        end(self.state, Process.of(self.process.pid))
        self.process.wait()

    def keep(self) -> None:
        """Tell an attached control plane that it must continue when this process ends, and close its streams."""
        assert self.process.stdin is not None
        # The control plane may have ended already.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(KEEP)
            self.process.stdin.flush()
        self.detach()

    def detach(self) -> None:
        """Close the streams to a control plane that continues when this process ends."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


def start(state: StateDir, options: Options, *, attached: bool, progress: Progress) -> Running:
    """Start a cluster and wait until it is ready.

    attached: True for a cluster that ends with this process.
    progress: called with each event.

    Raises HatchwayError when the cluster does not start; the end of its log is part of the hint. The previous
    configuration is then restored.
    """
    before = state.load_config()
    configure(state, options)
    arguments = [sys.executable, "-m", "hatchway.cluster", str(state.path), *(["--attached"] if attached else [])]
    end_remains(state)
    try:
        log = os.open(state.server_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HatchwayError(
            f"cannot write {state.server_log}: {error.strerror}", "move it away and try again"
        ) from error
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(log)
    identity = Process.of(process.pid)
    try:
        run = _wait_until_ready(state, process, progress)
    except BaseException:
        with _uninterrupted():
            end(state, identity)
            process.wait()
            # Options with which the cluster cannot start must not prevent the next start. The configuration of an
            # ephemeral cluster is deleted already.
            if state.config_file.exists():
                # On a full disk, the first error is the one to report.
                with contextlib.suppress(OSError, HatchwayError):
                    state.save_config(before or ClusterConfig(name=state.path.name))
        raise
    return Running(state, process, run)


def _wait_until_ready(state: StateDir, process: subprocess.Popen[bytes], progress: Progress) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "error":
            hint = event.get("hint", "")
            # An ephemeral cluster's logs were deleted with it.
            raise HatchwayError(event["message"], hint if state.path.exists() or str(state.path) not in hint else "")
        progress(event)
        if event["event"] == "ready":
            return event
    code = process.wait()
    if code == -signal.SIGTERM:
        # The signal ended the control plane before it could report this itself.
        raise HatchwayError(f'cluster "{state.path.name}" was stopped while it was starting')
    raise HatchwayError(
        f'cluster "{state.path.name}" ended while it was starting (exit code {code})',
        log_hint(state) + log_tail(state),
    )


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C while the block runs, so that a second Ctrl-C does not interrupt the clean-up."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def stop(state: StateDir) -> bool:
    """End the cluster, even while it is starting, and however it was started.

    Returns False when it did not run. Raises HatchwayError when it cannot be ended.
    """
    starter = state.starter()
    began = time.monotonic()
    ended = asked = False
    while True:
        if state.running():
            ended = True
            process = _lock_holder(state)
            if process is not None:
                end(state, process)
                continue
        elif starter is None or state.starter() != starter:
            break
        else:
            # The command that starts the cluster has no control plane yet, or the control plane has just ended.
            ended = True
            if time.monotonic() - began > _HEAR_SECONDS and not asked:
                asked = True
                starter.send(signal.SIGTERM)
        if time.monotonic() - began > _STOP_SECONDS:
            raise HatchwayError(
                f'cluster "{state.path.name}" did not end in {_STOP_SECONDS:.0f} s: another process holds its lock',
                "; ".join(filter(None, (f"`lsof {state.lock_file}` shows which one", log_hint(state)))),
            )
        time.sleep(_POLL_SECONDS)
    end_remains(state)
    return ended


def _lock_holder(state: StateDir) -> Process | None:
    """Return the process that holds the lock; None when it has not written its record yet, or has just ended."""
    holder = state.holder()
    if holder is not None:
        return holder.process if holder.process.alive() else None
    # A control plane of an older release writes no record.
    with contextlib.suppress(HatchwayError):
        run = state.load_run()
        return Process.of(run["pid"]) if run is not None else None
    return None


def end(state: StateDir, process: Process) -> None:
    """End a control plane: cleanly, or by SIGKILL when it does not react or takes too long. Its network ends with it.

    Raises HatchwayError when the kernel does not end it.
    """
    process.send(signal.SIGTERM)
    began = time.monotonic()
    while process.alive():
        holder = state.holder()
        heard = holder is not None and holder.process == process and holder.stopping
        if time.monotonic() - began > (_STOP_SECONDS if heard else _HEAR_SECONDS):
            process.send(signal.SIGKILL)
            break
        time.sleep(_POLL_SECONDS)
    if not process.wait(_KILL_SECONDS):
        raise HatchwayError(
            f'cluster "{state.path.name}": process {process.pid} cannot be ended', "is it another user's?"
        )
    end_remains(state)


def end_remains(state: StateDir) -> None:
    """End the network's processes after the control plane was killed.

    They end by themselves, unless they are stopped (SIGSTOP). Raises HatchwayError when the kernel does not end them.
    """
    holder = state.holder()
    if holder is None or holder.network is None or state.running():
        return
    # A process that was stopped (SIGSTOP) continues, and then notices that its control plane has ended.
    holder.network.send(signal.SIGCONT)
    if not holder.network.wait(2.0):
        holder.network.send(signal.SIGKILL)
        if not holder.network.wait(_KILL_SECONDS):
            raise HatchwayError(
                f'cluster "{state.path.name}": process {holder.network.pid} cannot be ended', "is it another user's?"
            )
    # The file describes a process that has ended. If it stays, the next control plane removes it.
    with contextlib.suppress(OSError):
        state.run_file.unlink()
