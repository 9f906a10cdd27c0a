"""Starting and stopping an embedded cluster from outside its process.

The control plane (`python -m hatchway.cluster`) reports its progress as JSON lines on its standard output, each an
object with `event`: "api", "nodes", "removed" (add-ons), "built-in", "first-use" (built-in services that wait for it),
"ready" or "error". An attached control plane ends when its standard input is closed, or when its parent process has
ended, unless it was told to stay by a line on its standard input (`KEEP`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hatchway.cluster import inventory, plan
from hatchway.cluster.network.egress import tools
from hatchway.cluster.node.config import SHUT_DOWN_SECONDS
from hatchway.cluster.process import KEEP, Process
from hatchway.cluster.state import ClusterConfig, StateDir
from hatchway.errors import HatchwayError
from hatchway.removal import remove_path

Progress = Callable[[dict[str, Any]], None]

# Seconds to wait for another command that starts or stops the cluster.
_SETTLE_SECONDS = 90.0
_POLL_SECONDS = 0.02
# A control plane that has not reacted to SIGTERM after this time (seconds) is killed.
_HEAR_SECONDS = 5.0
# A control plane that has reacted may take as long as its pods, and a little more (seconds).
_STOP_SECONDS = SHUT_DOWN_SECONDS + 20.0
# Seconds that the kernel may need to end processes that were killed.
_KILL_SECONDS = 10.0


def check_host_paths(state: StateDir, given: list[str]) -> list[str]:
    """Check the values of --host-path; return them as absolute paths. Raises HatchwayError."""
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
            raise HatchwayError(f"--host-path {text}: the cluster keeps its keys there", "choose another one")
        found.append(str(path))
    return sorted(set(found))


def check_publish(given: list[str]) -> list[str]:
    """Check the values of --publish; return them sorted. Raises HatchwayError.

    127.0.0.1 is left out, because it is always published. "none" takes earlier addresses back.
    """
    if "none" in given:
        if len(given) > 1:
            raise HatchwayError("--publish none excludes other addresses")
        return []
    found = set()
    for text in given:
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            raise HatchwayError(f"--publish {text}: not an IPv4 address", "`ip address` lists this machine's") from None
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.bind((text, 0))
        except OSError as error:
            why = error.strerror or str(error)
            raise HatchwayError(f"--publish {text}: {why}", "`ip address` lists this machine's addresses") from error
        found.add(str(address))
    return sorted(found - {plan.HOST_IP})


def settle(state: StateDir) -> dict[str, Any] | None:
    """Wait until no start or stop is under way; return the running control plane's record, or None.

    Wait for one that is still starting or already stopping. Raises HatchwayError when that takes too long.
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
def starting(state: StateDir, waits: Callable[[str], None]) -> Iterator[None]:
    """Be the only command that starts this cluster, while none ends it.

    Args:
        waits: called once with the reason, when this has to wait for a command that starts or ends the cluster.

    Raises:
        HatchwayError: the other command takes too long.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    told = False
    while True:
        # Checked before the lock is taken: otherwise `stop` would mistake this waiting start for one that is under way.
        # Checked again afterwards: when a start and an end begin at the same time, at least one sees the other.
        ends = state.is_ending()
        if not ends:
            with state.starting() as alone:
                ends = state.is_ending()
                if alone and not ends:
                    yield
                    return
        if not told:
            told = True
            waits("it is being stopped" if ends else "another `hatchway up` is starting it")
        if time.monotonic() > deadline:
            raise _busy(state)
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def ending(state: StateDir) -> Iterator[None]:
    """Be the only command that ends this cluster; commands that start it wait until the block has ended.

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


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `hatchway up`. None keeps the cluster's setting (for a new cluster, the default)."""

    api_port: int | None = None
    workers: int | None = None
    addons: list[str] | None = None
    network: str | None = None
    rewrite: str | None = None
    host_paths: list[str] | None = None
    publish: list[str] | None = None
    host_programs: bool | None = None
    image_store: str | None = None
    egress: str | None = None
    egress_to_host: bool | None = None
    ephemeral: bool = False

    def differing(self, config: ClusterConfig) -> list[str]:
        """Return the options whose values differ from the cluster's configuration."""
        asked = {
            "api_port": self.api_port or None,
            "workers": self.workers,
            "addons": self.addons,
            "network": self.network,
            "rewrite": self.rewrite,
            "host_paths": self.host_paths,
            "publish": self.publish,
            "host_programs": self.host_programs,
            "egress": self.egress,
            "egress_to_host": self.egress_to_host,
        }
        own_names = {"workers": "--nodes", "host_paths": "--host-path"}
        names = {key: f"--{key.replace('_', '-')}" for key in asked} | own_names
        return [names[key] for key, value in asked.items() if value is not None and value != getattr(config, key)]


# The options that a cluster keeps when it is started again without them.
_KEPT = (
    "api_port",
    "workers",
    "addons",
    "network",
    "rewrite",
    "host_paths",
    "publish",
    "host_programs",
    "image_store",
    "egress",
    "egress_to_host",
)


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
        """Tell an attached control plane to stay when this process ends, and let it continue."""
        assert self.process.stdin is not None
        # One that has ended has nothing to keep.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(KEEP)
            self.process.stdin.flush()
        self.detach()

    def detach(self) -> None:
        """Let the control plane continue when this process ends."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


def configure(state: StateDir, options: Options) -> ClusterConfig:
    """Make the state directory and write the configuration that the control plane starts with.

    Raises HatchwayError, and changes no configuration, when the requested port is taken, when the requested program for
    --egress is not installed, or when an ephemeral cluster would replace kept state.
    """
    if options.api_port:
        _check_port(options.api_port)
    if options.egress is not None:
        tools.choose(options.egress)
    state.create()
    known = state.load_config()
    if options.ephemeral and known is not None and not known.ephemeral:
        raise HatchwayError(
            f'cluster "{state.path.name}" has state that was kept in {state.path}',
            "choose another --name for a cluster that keeps nothing",
        )
    config = known or ClusterConfig(name=state.path.name)
    asked = {key: value for key in _KEPT if (value := getattr(options, key)) is not None}
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

    attached: True for a cluster that ends with this process.
    progress: called with each event.

    Raises HatchwayError when the cluster does not start; the end of its log is part of the hint. The configuration is
    then the previous one.
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
        run = _follow(state, process, progress)
    except BaseException:
        with _uninterrupted():
            end(state, identity)
            process.wait()
            # Options with which the cluster cannot start must not prevent the next start. An ephemeral one is deleted.
            if state.config_file.exists():
                # On a full disk, the first error is the one to report.
                with contextlib.suppress(OSError, HatchwayError):
                    state.save_config(before or ClusterConfig(name=state.path.name))
        raise
    return Running(state, process, run)


def _follow(state: StateDir, process: subprocess.Popen[bytes], progress: Progress) -> dict[str, Any]:
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
        # It ended before it could report this itself.
        raise HatchwayError(f'cluster "{state.path.name}" was stopped while it was starting')
    raise HatchwayError(
        f'cluster "{state.path.name}" ended while it was starting (exit code {code})',
        log_hint(state) + log_tail(state),
    )


def log_hint(state: StateDir) -> str:
    """Return the hint with the path of the control plane's log; "" when it is deleted (ephemeral cluster)."""
    return f"see {state.server_log}" if state.server_log.exists() else ""


def log_tail(state: StateDir, lines: int = 5) -> str:
    """Return the last lines of the control plane's log, each on a line of its own; "" without one."""
    try:
        text = state.server_log.read_text(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in text.splitlines()[-lines:])


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C while the block runs, so that a second one does not interrupt the clean-up."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def stop(state: StateDir) -> bool:
    """End the cluster, however it was started and whatever it is doing; also one that is just starting.

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
                "; ".join(filter(None, (f"`lsof {state.lock_file}` shows which one", log_hint(state)))),
            )
        time.sleep(_POLL_SECONDS)
    end_remains(state)
    return ended


def _of_lock(state: StateDir) -> Process | None:
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
    """End what is left of a control plane that was killed. Its network ends by itself, unless it is stopped (SIGSTOP).

    Raises HatchwayError when the kernel does not end it.
    """
    holder = state.holder()
    if holder is None or holder.network is None or state.running():
        return
    # It may have been stopped (SIGSTOP). Once it runs again, it notices that its control plane is gone.
    holder.network.send(signal.SIGCONT)
    if not holder.network.wait(2.0):
        holder.network.send(signal.SIGKILL)
        if not holder.network.wait(_KILL_SECONDS):
            raise HatchwayError(
                f'cluster "{state.path.name}": process {holder.network.pid} cannot be ended', "is it another user's?"
            )
    # It describes a process that has ended; the next control plane removes it, too.
    with contextlib.suppress(OSError):
        state.run_file.unlink()


def delete(state: StateDir) -> None:
    """Remove everything the (stopped) cluster has kept. Raises HatchwayError when something cannot be removed."""
    try:
        remove_path(state.path)
    except OSError as error:
        # The error's file is a name in some directory of the tree.
        hint = (
            "files in it belong to another user, or to a range of /etc/subuid that you had: root can remove it"
            if isinstance(error, PermissionError)
            else ""
        )
        raise HatchwayError(f"cannot remove {state.path}: {error.strerror}", hint) from error
