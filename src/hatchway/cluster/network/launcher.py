"""Starting the cluster's network from the control plane: the private one, or loopback where that is not possible.

    network = await start_private_network(Settings(nodes=3, agent=[sys.executable, "-m", "hatchway.cluster.node"], ...))
    sock = await network.dialer.connect("10.244.1.3", 8080)
    await network.stop()

The node agent runs inside and finds its `Runtime` with `agent.open_runtime`. The network ends with this process,
however this process ends: its first process holds the other end of a socket pair, the lifeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from hatchway.cluster import plan
from hatchway.cluster.network import loopback
from hatchway.cluster.network.deaths import Deaths
from hatchway.cluster.network.dialer import Dialer, LoopbackDialer, PrivateDialer
from hatchway.errors import HatchwayError

log = logging.getLogger(__name__)

ENVIRONMENT = "HATCHWAY_NETWORK"

Isolation = Literal["private", "loopback"]

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class Network(Protocol):
    """A running network with the node agent in it.

    closed: done when everything in it has ended; its result says why. limits: why it is no private network, "" if it
    is one. pid: the process that all others in it descend from.
    """

    isolation: Isolation
    limits: str
    pid: int
    dialer: Dialer
    closed: asyncio.Future[str]

    async def stop(self, grace: float = 5.0) -> None:
        """Send the node agent SIGTERM; what is left after `grace` seconds is killed. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """nodes: how many, the control plane's included. agent: the node agent's argv. directory: an existing private
    directory, needed as a mount point. log: what the agent and the network write to. env: the agent's environment
    (None: this process's). hidden: paths that no pod may see although they lie below a directory that pods see."""

    nodes: int
    agent: Sequence[str]
    directory: Path
    log: Path
    env: Mapping[str, str] | None = None
    hidden: Sequence[Path] = ()


class Unavailable(HatchwayError):
    """A private network cannot be made on this machine; the message says why."""


def available() -> str:
    """ "" when a private network can be made here (one is made, and thrown away), else a sentence saying why not."""
    with tempfile.TemporaryDirectory(prefix="hatchway-") as directory:
        settings = Settings(1, [], Path(directory), Path(os.devnull))

        async def attempt() -> None:
            network = await start_private_network(settings)
            await network.closed
            await network.stop()

        try:
            asyncio.run(attempt())
        except HatchwayError as error:
            return error.message
    return ""


async def start_private_network(settings: Settings) -> PrivateNetwork:
    """Make the private network and start the node agent in it. Raises Unavailable when this machine cannot."""
    if sys.platform != "linux":
        raise Unavailable("private networks need Linux")
    from hatchway.cluster.network import channel

    lifeline, inner_lifeline = channel.pair()
    dial, inner_dial = channel.pair()
    addresses = [[plan.node_ip(index), plan.NODE_CIDR.prefixlen] for index in range(settings.nodes)]
    addresses += [[str(plan.pod_cidr(index)[1]), plan.POD_CIDR.prefixlen] for index in range(settings.nodes)]
    config = {
        "lifeline": inner_lifeline.fileno(),
        "dial": inner_dial.fileno(),
        "scratch": str(settings.directory.resolve()),
        "hidden": [str(path.resolve()) for path in settings.hidden],
        "addresses": addresses,
        "local": [[str(plan.SERVICE_CIDR.network_address), plan.SERVICE_CIDR.prefixlen]],
        "agent": list(settings.agent),
    }
    network = PrivateNetwork(lifeline, dial, settings.log)
    try:
        with inner_lifeline, inner_dial, _open_log(settings.log) as log:
            stage = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hatchway.cluster.network.init", json.dumps(config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(inner_lifeline.fileno(), inner_dial.fileno()),
                env=None if settings.env is None else dict(settings.env),
                start_new_session=True,
                cwd="/",
            )
        await stage.wait()
        await network.wait_ready()
    except OSError as error:
        await network.stop(0)
        raise HatchwayError(f"cannot start the private network: {error}") from error
    except BaseException:
        await network.stop(0)
        raise
    return network


class PrivateNetwork:
    """The outer ends of the lifeline and the dialer's socket."""

    isolation: Isolation = "private"
    limits = ""
    pid = 0

    def __init__(self, lifeline: socket.socket, dial: socket.socket, log: Path) -> None:
        from hatchway.cluster.network import channel

        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._lost_lifeline = False
        self._why = f"the private network has ended; see {log}"
        self._init: int | None = None
        self.pid = 0
        self._lifeline = channel.Channel(self._loop, lifeline, self._received, self._lost)
        self._dialer = PrivateDialer(dial)
        self.dialer: Dialer = self._dialer

    async def wait_ready(self) -> None:
        """Raises Unavailable with what the kernel refused, HatchwayError when nothing is heard."""
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._ready
        except TimeoutError:
            raise HatchwayError(f"the private network was not made in {_START_SECONDS:.0f} s") from None

    async def stop(self, grace: float = 5.0) -> None:
        if grace > 0 and not self.closed.done():
            if self._init is not None:
                # Somebody may have stopped it.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._init, signal.SIGCONT)
            self._lifeline.send({"stop": grace})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace + 1):
                    await asyncio.shield(self.closed)
        self._lifeline.close()
        self._dialer.close()
        if self._init is None:
            self._end()
            return
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.shield(self.closed)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            await asyncio.shield(self.closed)

    def _received(self, message: dict[str, object], descriptors: list[int]) -> None:
        if "pid" in message:
            self._follow(int(str(message["pid"])))
        elif "ready" in message and not self._ready.done():
            self._ready.set_result(None)
        elif "error" in message:
            self._why = explain(str(message["error"]))
            self._fail()
        elif "again" in message:
            log.error("%s, and its pods with it; it is started again", _ended(int(str(message["again"]))))
            self._dialer.interrupted()
        elif "agent" in message:
            self._why = _ended(int(str(message["agent"])))

    def _follow(self, pid: int) -> None:
        """Learn when the first process is gone, which the kernel lets happen after everything in the network is."""
        self.pid = pid
        try:
            self._init = os.pidfd_open(pid)
        except ProcessLookupError:
            self._end()
            return
        self._loop.add_reader(self._init, self._gone)

    def _gone(self) -> None:
        assert self._init is not None
        self._loop.remove_reader(self._init)
        os.close(self._init)
        self._init = None
        self._end()

    def _lost(self) -> None:
        if self._init is None:
            self._end()

    def _fail(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(Unavailable(self._why))
            # Whoever does not wait for it any more knows of another error.
            self._ready.exception()

    def _end(self) -> None:
        self._fail()
        if not self.closed.done():
            self.closed.set_result(self._why)


def explain(error: str) -> str:
    """Why a private network cannot be made, from what the kernel said and how it is set."""
    for name, off, sentence in (
        ("kernel/unprivileged_userns_clone", "0", "unprivileged user namespaces are switched off"),
        ("user/max_user_namespaces", "0", "user namespaces are switched off"),
        ("user/max_net_namespaces", "0", "network namespaces are switched off"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor restricts unprivileged user namespaces"),
    ):
        try:
            value = Path("/proc/sys", name).read_text().strip()
        except OSError:
            continue
        if value == off:
            return f"a private network cannot be made: {sentence} (sysctl {name.replace('/', '.', 1)}={off}): {error}"
    return f"a private network cannot be made: {error}"


async def start_loopback_network(settings: Settings, why: str) -> LoopbackNetwork:
    """Start the node agent outside of any namespace. why: there is no private network; goes into `limits`. Raises HatchwayError."""
    network = LoopbackNetwork(settings, why)
    await network.start()
    return network


class LoopbackNetwork:
    """The node agent as an ordinary child process. It ends when the lifeline does, and its pods end when it does."""

    isolation: Isolation = "loopback"

    def __init__(self, settings: Settings, why: str) -> None:
        self._settings = settings
        self._deaths = Deaths()
        self._stopping = False
        self._lifeline: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.pid = 0
        self.limits = f"{why}; {loopback.limits()}"
        self.dialer: Dialer = LoopbackDialer()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Raises HatchwayError."""
        process = await self._start_agent()
        self._watcher = asyncio.get_running_loop().create_task(self._watch(process))

    async def _start_agent(self) -> asyncio.subprocess.Process:
        settings = self._settings
        if self._lifeline is not None:
            self._lifeline.close()
        self._lifeline, inner = socket.socketpair()
        env = dict(os.environ if settings.env is None else settings.env)
        env[ENVIRONMENT] = f"loopback:{inner.fileno()}:{settings.directory}"
        try:
            with inner, _open_log(settings.log) as output:
                process = await asyncio.create_subprocess_exec(
                    *settings.agent,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(inner.fileno(),),
                    env=env,
                    start_new_session=True,
                    cwd="/",
                )
        except OSError as error:
            self._lifeline.close()
            raise HatchwayError(f"cannot start the node agent: {error}") from error
        self._process = process
        self.pid = process.pid
        return process

    async def stop(self, grace: float = 5.0) -> None:
        self._stopping = True
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.shield(self.closed)
        if self._lifeline is not None:
            self._lifeline.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.shield(self.closed)
        self._signal(signal.SIGKILL)
        if self._watcher is not None:
            await self._watcher

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        while True:
            code = await process.wait()
            if self._stopping or not self._deaths.again(code):
                break
            log.error("%s, and its pods with it; it is started again", _ended(code))
            try:
                process = await self._start_agent()
            except HatchwayError as error:
                self.closed.set_result(error.message)
                return
            if self._stopping:
                # Asked to end while there was nobody to be told.
                self._signal(signal.SIGTERM)
        self.closed.set_result(_ended(code))


def _ended(code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"has ended with exit code {code}"
    return f"the node agent {how}"


@contextlib.contextmanager
def _open_log(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
