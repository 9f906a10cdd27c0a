"""Starts the cluster's network from the control plane: a private network, or loopback where that is impossible.

    agent = [sys.executable, "-m", "hatchway.cluster.nodeagent"]
    network = await start_private_network(NetworkSettings(nodes=3, agent=agent, ...))
    sock = await network.dialer.connect("10.244.1.3", 8080)
    await network.stop()

The node agent runs inside and finds its `Runtime` with `runtimes.open_runtime`. The network ends when this process
ends, for whatever reason: the network's first process holds the other end of a socket pair, the lifeline.
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

from hatchway import usermaps
from hatchway.cluster import plan
from hatchway.cluster.network import loopback
from hatchway.cluster.network.agentlink import ENVIRONMENT
from hatchway.cluster.network.deaths import Deaths
from hatchway.cluster.network.dialer import LoopbackDialer, NetworkDialer, PrivateDialer
from hatchway.cluster.network.egress.egresslink import EgressLink, EgressSettings
from hatchway.cluster.network.hostsockets import HostSockets
from hatchway.errors import HatchwayError

log = logging.getLogger(__name__)

Isolation = Literal["private", "loopback"]

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class ClusterNetwork(Protocol):
    """A running network with the node agent in it.

    limits: why the network is not private; "" for a private network.
    pid: the process from which all other processes of the network descend; 0 while unknown.
    no_policies: why network policies cannot be enforced; "" when they are enforced.
    users: one sentence about the users of images (`usermaps.explain`).
    dialer: connects and listens in the network.
    closed: done when all processes of the network have ended; the result is a sentence with the reason.
    """

    isolation: Isolation
    limits: str
    no_policies: str
    users: str
    pid: int
    dialer: NetworkDialer
    closed: asyncio.Future[str]

    async def stop(self, grace: float = 5.0) -> None:
        """Send the node agent SIGTERM, and kill the remaining processes after `grace` seconds. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The settings with which a network is started.

    nodes: the number of nodes, including the control plane's node.
    agent: the node agent's argv; [] only to find out whether a network can be made.
    directory: an existing private directory, which becomes a mount point.
    log: the file that the agent and the network write to.
    env: the agent's environment; None for this process's environment.
    hidden: paths that no pod may see although they lie below a directory that pods see.
    start_seconds: the maximum number of seconds that the start of a container, or of an exec, may take in the private
        network.
    published: addresses of this machine on which the private network may publish node ports.
    egress: how the private network reaches other networks; None: not at all.
    """

    nodes: int
    agent: Sequence[str]
    directory: Path
    log: Path
    env: Mapping[str, str] | None = None
    hidden: Sequence[Path] = ()
    start_seconds: float = 30.0
    published: Sequence[str] = ()
    egress: EgressSettings | None = None


class Unavailable(HatchwayError):
    """A private network cannot be made on this machine; the message says why."""


def why_unavailable() -> str:
    """Return why no private network can be made on this machine; "" when it can. Blocks: it tries to make one."""
    with tempfile.TemporaryDirectory(prefix="hatchway-") as directory:
        settings = NetworkSettings(1, [], Path(directory), Path(os.devnull))

        async def attempt() -> None:
            network = await start_private_network(settings)
            await network.closed
            await network.stop()

        try:
            asyncio.run(attempt())
        except HatchwayError as error:
            return error.message
    return ""


async def start_private_network(settings: NetworkSettings) -> PrivateNetwork:
    """Make the private network and start the node agent in it. Raises Unavailable when it cannot be made."""
    if sys.platform != "linux":
        raise Unavailable("private networks need Linux")
    from hatchway.cluster.network import channel

    lifeline, inner_lifeline = channel.pair()
    dial, inner_dial = channel.pair()
    inner = [inner_lifeline, inner_dial]
    link, egress = None, None
    if settings.egress is not None:
        ours, theirs = channel.pair()
        inner.append(theirs)
        link = EgressLink(ours, settings.egress)
        egress = {**settings.egress.tool.settings(to_host=settings.egress.to_host), "control": theirs.fileno()}
    config = {
        "lifeline": inner_lifeline.fileno(),
        "dial": inner_dial.fileno(),
        "scratch": str(settings.directory.resolve()),
        "hidden": [str(path.resolve()) for path in settings.hidden],
        "nodes": [
            {"name": name, "ip": plan.node_ip(index), "gateway": plan.gateway(index)}
            for index, name in enumerate(plan.node_names(settings.nodes - 1))
        ],
        "local": [[str(plan.SERVICE_CIDR.network_address), plan.SERVICE_CIDR.prefixlen]],
        "refused": [[str(cidr.network_address), cidr.prefixlen] for cidr in (plan.POD_CIDR, plan.NODE_CIDR)],
        "agent": list(settings.agent),
        "start_seconds": settings.start_seconds,
        "egress": egress,
    }
    network = PrivateNetwork(lifeline, dial, settings.log, HostSockets(settings.published), link)
    try:
        with contextlib.ExitStack() as stack:
            for sock in inner:
                stack.enter_context(sock)
            log = stack.enter_context(_open_log(settings.log))
            stage = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hatchway.cluster.network.init", json.dumps(config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[sock.fileno() for sock in inner],
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
    """The control plane's side of a private network: the outer ends of the lifeline and the dialer's socket.

    host: opens sockets on this machine for the network. egress: the connection to other networks; None for none.
    """

    isolation: Isolation = "private"
    limits = ""
    no_policies = ""
    users = ""
    pid = 0

    def __init__(
        self, lifeline: socket.socket, dial: socket.socket, log: Path, host: HostSockets, egress: EgressLink | None
    ) -> None:
        from hatchway.cluster.network import channel

        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._why = f"the private network has ended; see {log}"
        self._init: int | None = None
        self.pid = 0
        self._lifeline = channel.Channel(self._loop, lifeline, self._received, self._lost)
        self._dialer = PrivateDialer(dial, host.open)
        self.dialer: NetworkDialer = self._dialer
        self._egress = egress

    async def wait_ready(self) -> None:
        """Wait until the node agent can be started.

        Raises Unavailable with the kernel's reason, and HatchwayError when there is no answer in time.
        """
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._ready
        except TimeoutError:
            raise HatchwayError(f"the private network was not made in {_START_SECONDS:.0f} s") from None

    async def stop(self, grace: float = 5.0) -> None:
        """End the agent and its pods, then the network; see `ClusterNetwork.stop`."""
        if grace > 0 and not self.closed.done():
            if self._init is not None:
                # Continue the first process, because it may have been stopped (SIGSTOP).
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._init, signal.SIGCONT)
            self._lifeline.send({"stop": grace})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace + 1):
                    await asyncio.shield(self.closed)
        self._lifeline.close()
        self._dialer.close()
        if self._egress is not None:
            await self._egress.close()
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
            self._watch_init(int(str(message["pid"])))
        elif "ready" in message and not self._ready.done():
            if why := str(message.get("no_filter") or ""):
                self.no_policies = f"this machine's kernel does not filter packets for the cluster (nf_tables: {why})"
            if isinstance(users := message.get("users"), dict):
                self.users = usermaps.explain(users["way"], users["reason"])
            self._ready.set_result(None)
        elif "error" in message:
            self._why = explain(str(message["error"]))
            self._fail()
        elif "restarted" in message:
            log.error("%s, and its pods with it; it is started again", _ended(int(str(message["restarted"]))))
            self._dialer.fail_waiting()
        elif "agent" in message:
            self._why = _ended(int(str(message["agent"])))

    def _watch_init(self, pid: int) -> None:
        """Watch for the end of the first process, which comes after the end of everything else in the network."""
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
            # If the caller no longer waits, asyncio would log this exception as never retrieved.
            self._ready.exception()

    def _end(self) -> None:
        self._fail()
        if not self.closed.done():
            self.closed.set_result(self._why)


def explain(error: str) -> str:
    """Explain why a private network cannot be made, from the kernel's error and its settings."""
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


async def start_loopback_network(settings: NetworkSettings, why: str) -> LoopbackNetwork:
    """Start the node agent outside of any namespace. Raises HatchwayError.

    why: the reason for having no private network, which goes into `limits`.
    """
    network = LoopbackNetwork(settings, why)
    await network.start()
    return network


class LoopbackNetwork:
    """The node agent as an ordinary child process. It ends with the lifeline, and so do its pods."""

    isolation: Isolation = "loopback"
    no_policies = "the cluster has no private network"
    users = usermaps.explain("one", "the cluster has no private network")

    def __init__(self, settings: NetworkSettings, why: str) -> None:
        self._settings = settings
        self._deaths = Deaths()
        self._stopping = False
        self._lifeline: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.pid = 0
        self.limits = f"{why}; {loopback.limits()}"
        self.dialer: NetworkDialer = LoopbackDialer()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the node agent. Raises HatchwayError."""
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
        """End the agent and its pods; see `ClusterNetwork.stop`."""
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
            if self._stopping or not self._deaths.record(code):
                break
            log.error("%s, and its pods with it; it is started again", _ended(code))
            try:
                process = await self._start_agent()
            except HatchwayError as error:
                self.closed.set_result(error.message)
                return
            if self._stopping:
                # `stop` was called while there was no agent.
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
