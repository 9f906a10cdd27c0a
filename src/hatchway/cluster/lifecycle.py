"""Starting, finding and stopping an embedded cluster from outside its process.

The control plane (`python -m hatchway.cluster`) reports its progress as JSON lines on its standard output, each an
object with `event`: "api", "nodes", "built-in", "ready" or "error". An attached one ends when its standard input does.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hatchway.cluster.node.config import SHUT_DOWN_SECONDS
from hatchway.cluster.process import Process
from hatchway.cluster.state import DEFAULT_NAME, ClusterConfig, StateDir
from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig

Progress = Callable[[dict[str, Any]], None]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?\Z")
# How long to wait for another command that starts or stops the cluster.
_SETTLE_SECONDS = 90.0
_POLL_SECONDS = 0.02
# A control plane that has not even heard of SIGTERM after this time is held up: it is killed.
_HEAR_SECONDS = 5.0
# One that has heard it may take what its pods may take, and a little more.
_STOP_SECONDS = SHUT_DOWN_SECONDS + 20.0
# What the kernel may take to end processes that were killed.
_KILL_SECONDS = 10.0


def context_name(name: str) -> str:
    """The kubeconfig context of a cluster: `hatchway`, else `hatchway-NAME`."""
    return name if name == DEFAULT_NAME else f"{DEFAULT_NAME}-{name}"


def check_name(name: str) -> str:
    """The name, which must be a DNS label since it is a directory's and a context's. Raises HatchwayError."""
    if not _NAME.match(name):
        raise HatchwayError(f'"{name}" cannot be a cluster\'s name', "use small letters, digits and hyphens")
    return name


def check_host_paths(state: StateDir, given: list[str]) -> list[str]:
    """Directories that nodes may have of this machine, as absolute paths. Raises HatchwayError."""
    found = []
    for text in given:
        path = Path(os.path.abspath(Path(text).expanduser()))
        if not path.is_dir():
            raise HatchwayError(f"--host-path {text}: there is no such directory")
        if path == Path("/"):
            raise HatchwayError(
                "--host-path / would give every pod all of this machine", "name the directories that pods need"
            )
        if path.resolve().is_relative_to(state.path.resolve()):
            raise HatchwayError(f"--host-path {text}: that is where the cluster keeps its keys", "choose another one")
        found.append(str(path))
    return sorted(set(found))


def require(state: StateDir) -> None:
    """Raise HatchwayError when there is no such cluster."""
    if not state.config_file.exists():
        raise missing(state)


def known(state_dir: str | None = None) -> list[StateDir]:
    """Return the clusters that have state, sorted by name.

    state_dir: where clusters keep their state; None takes the default (`StateDir.for_name`).
    """
    base = StateDir.for_name(DEFAULT_NAME, state_dir).path.parent
    try:
        return [state for path in sorted(base.iterdir()) if (state := StateDir(path)).config_file.exists()]
    except OSError:
        return []


def summary(state: StateDir) -> dict[str, Any]:
    """Return what `hatchway list` shows of a cluster.

    Returns: name, status ("running", "stopped", "changing" while it starts or stops, "unreadable" when its files cannot
        be read), server (its URL, None unless it runs), context (of the kubeconfig), directory.
    """
    server = None
    try:
        running = state.running()
        run = state.load_run() if running else None
        status = "stopped" if not running else "changing" if run is None else "running"
        server = run.get("server") if run else None
    except HatchwayError:
        # One damaged cluster must not keep the others from being listed.
        status = "unreadable"
    return {
        "name": state.path.name,
        "status": status,
        "server": server,
        "context": context_name(state.path.name),
        "directory": str(state.path),
    }


def missing(state: StateDir) -> HatchwayError:
    """What to say where there is no such cluster; the hint names those that there are."""
    hint = "`hatchway up` makes one"
    with contextlib.suppress(OSError, HatchwayError):
        if others := known(str(state.path.parent)):
            names = ", ".join(f"{one.path.name} ({'running' if one.running() else 'stopped'})" for one in others)
            hint = f"--name takes {names}; `hatchway up --name {state.path.name}` makes another one"
    return HatchwayError(f'there is no cluster "{state.path.name}" in {state.path.parent}', hint)


def settle(state: StateDir) -> dict[str, Any] | None:
    """What the running control plane has said of itself, or None when none runs.

    One that is still starting, or already stopping, is waited for. Raises HatchwayError when it takes too long.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while state.running():
        run = state.load_run()
        if run is not None:
            return run
        if time.monotonic() > deadline:
            raise _busy(state)
        time.sleep(_POLL_SECONDS)
    return None


@contextlib.contextmanager
def starting(state: StateDir, waits: Callable[[], None]) -> Iterator[None]:
    """Be the only command that starts this cluster. waits: called once when another one does, before it is waited for.

    Raises HatchwayError when that takes too long.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    told = False
    while True:
        with state.starting() as alone:
            if alone:
                yield
                return
        if not told:
            told = True
            waits()
        if time.monotonic() > deadline:
            raise _busy(state)
        time.sleep(_POLL_SECONDS)


def _busy(state: StateDir) -> HatchwayError:
    return HatchwayError(
        f'cluster "{state.path.name}" has been starting or stopping for {_SETTLE_SECONDS:.0f} s',
        f"`hatchway down --name {state.path.name}` ends it; see {state.server_log}",
    )


@dataclass(frozen=True, slots=True)
class Options:
    """What `hatchway up` was asked for. None keeps what the cluster was made with (or the default for a new one)."""

    api_port: int | None = None
    workers: int | None = None
    addons: bool | None = None
    network: str | None = None
    rewrite: str | None = None
    host_paths: list[str] | None = None
    ephemeral: bool = False

    def differing(self, config: ClusterConfig) -> list[str]:
        """What was asked for and is not what the cluster was made with."""
        asked = {
            "api_port": self.api_port or None,
            "workers": self.workers,
            "addons": self.addons,
            "network": self.network,
            "rewrite": self.rewrite,
            "host_paths": self.host_paths,
        }
        own_names = {"api_port": "--api-port", "workers": "--nodes", "host_paths": "--host-path"}
        names = {key: f"--{key}" for key in asked} | own_names
        return [names[key] for key, value in asked.items() if value is not None and value != getattr(config, key)]


class Running:
    """A control plane that this process has started and that is ready."""

    def __init__(self, state: StateDir, process: subprocess.Popen[bytes], run: dict[str, Any]) -> None:
        self.state = state
        self.process = process
        self.run = run

    def wait(self) -> int:
        """Wait until it ends; returns its exit code."""
        return self.process.wait()

    def stop(self) -> None:
        """End it: cleanly if it can. Raises HatchwayError when it cannot be ended at all."""
        end(self.state, Process.of(self.process.pid))
        self.process.wait()

    def detach(self) -> None:
        """Let it run on when this process ends."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


def configure(state: StateDir, options: Options) -> ClusterConfig:
    """Make the state directory and write the configuration that the control plane starts with.

    Raises HatchwayError when the cluster runs already, when the port that is asked for is taken, or when an ephemeral
    one would take the place of kept state; nothing is remembered then.
    """
    if options.api_port:
        _check_port(options.api_port)
    state.create()
    known = state.load_config()
    if options.ephemeral and known is not None and not known.ephemeral:
        raise HatchwayError(
            f'cluster "{state.path.name}" has state that was kept in {state.path}',
            "choose another --name for a cluster that keeps nothing",
        )
    config = known or ClusterConfig(name=state.path.name)
    asked = {
        key: value
        for key in ("api_port", "workers", "addons", "network", "rewrite", "host_paths")
        if (value := getattr(options, key)) is not None
    }
    config = replace(config, **asked, ephemeral=options.ephemeral)
    state.save_config(config)
    return config


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise HatchwayError(
            f"cannot listen on 127.0.0.1:{port}: {why}", "`hatchway up --api-port 0` picks a free port"
        ) from error


def start(state: StateDir, options: Options, *, attached: bool, progress: Progress) -> Running:
    """Start a cluster and wait until it is ready.

    attached: it ends with this process. progress is called with each event. Raises HatchwayError when it does not
    start; the end of its log is part of the hint.
    """
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
        run = _follow(state, process, progress)
    except BaseException:
        with _uninterrupted():
            end(state, identity)
            process.wait()
        raise
    return Running(state, process, run)


def _follow(state: StateDir, process: subprocess.Popen[bytes], progress: Progress) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "error":
            raise HatchwayError(event["message"], event.get("hint", ""))
        progress(event)
        if event["event"] == "ready":
            return event
    code = process.wait()
    if code == -signal.SIGTERM:
        # So early that it could not say so itself.
        raise HatchwayError(f'cluster "{state.path.name}" was stopped while it was starting')
    raise HatchwayError(
        f'cluster "{state.path.name}" ended while it was starting (exit code {code})',
        f"see {state.server_log}" + _tail(state.server_log),
    )


def _tail(path: Path, lines: int = 5) -> str:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in text.splitlines()[-lines:])


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave things half done."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def stop(state: StateDir) -> bool:
    """End the cluster, however it was started and whatever it is doing: one that is being started as well.

    Returns False when there was none. Raises HatchwayError when it cannot be ended.
    """
    starter = state.starter()
    began = time.monotonic()
    ended = asked = False
    while True:
        if state.running():
            ended = True
            process = _of_lock(state)
            if process is not None:
                end(state, process)
                continue
        elif starter is None or state.starter() != starter:
            break
        else:
            # Its control plane is not there yet, or has just gone.
            ended = True
            if time.monotonic() - began > _HEAR_SECONDS and not asked:
                asked = True
                starter.send(signal.SIGTERM)
        if time.monotonic() - began > _STOP_SECONDS:
            raise HatchwayError(
                f'cluster "{state.path.name}" did not end in {_STOP_SECONDS:.0f} s: another process holds its lock',
                f"`lsof {state.lock_file}` tells which one; see {state.server_log}",
            )
        time.sleep(_POLL_SECONDS)
    end_remains(state)
    return ended


def _of_lock(state: StateDir) -> Process | None:
    """Who holds the lock; None when it has not said so yet, or its process has just ended."""
    holder = state.holder()
    if holder is not None:
        return holder.process if holder.process.alive() else None
    # A control plane of an older release.
    with contextlib.suppress(HatchwayError):
        run = state.load_run()
        return Process.of(run["pid"]) if run is not None else None
    return None


def end(state: StateDir, process: Process) -> None:
    """End a control plane: cleanly, unless it does not hear of it or takes too long. Its network ends with it.

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
    """End what is left of a control plane that was killed. Its network ends by itself, unless it cannot run.

    Raises HatchwayError when the kernel does not end it.
    """
    holder = state.holder()
    if holder is None or holder.network is None or state.running():
        return
    # It may have been stopped; awake, it sees that its control plane is gone.
    holder.network.send(signal.SIGCONT)
    if not holder.network.wait(2.0):
        holder.network.send(signal.SIGKILL)
        if not holder.network.wait(_KILL_SECONDS):
            raise HatchwayError(
                f'cluster "{state.path.name}": process {holder.network.pid} cannot be ended', "is it another user's?"
            )
    # It tells of one that is gone; the next one removes it, too.
    with contextlib.suppress(OSError):
        state.run_file.unlink()


def delete(state: StateDir) -> None:
    """Remove everything the (stopped) cluster has kept. Raises HatchwayError when something cannot be removed."""
    try:
        shutil.rmtree(state.path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HatchwayError(f"cannot remove {error.filename}: {error.strerror}") from error


def write_kubeconfig(state: StateDir, path: Path, server: str) -> str:
    """Merge the cluster into a kubeconfig and remember what was current. Returns the context's name."""

    def encoded(name: str) -> str:
        return base64.b64encode((state.pki / name).read_bytes()).decode()

    context = context_name(state.path.name)
    entry = kubeconfig.Entry(context, server, encoded("ca.crt"), encoded("admin.crt"), encoded("admin.key"))
    before = kubeconfig.merge(path, entry)
    known = state.load_kubeconfig()
    if before == context:
        # A cluster that was killed had merged itself already: what was current before it still counts.
        before = known["before"] if known else ""
    state.save_kubeconfig({"path": str(path), "context": context, "before": before})
    return context


def restore_kubeconfig(state: StateDir) -> None:
    """Take the cluster out of the kubeconfig it was merged into. Idempotent."""
    known = state.load_kubeconfig()
    if known is None:
        return
    kubeconfig.remove(Path(known["path"]), known["context"], known["before"])
    try:
        state.kubeconfig_file.unlink(missing_ok=True)
    except OSError as error:
        raise HatchwayError(f"cannot remove {state.kubeconfig_file}: {error.strerror}") from error
