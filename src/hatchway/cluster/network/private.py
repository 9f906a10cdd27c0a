"""The `Runtime` of the private network, in the node agent: asks `init.py` for sandboxes and processes."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from hatchway.cluster import plan, sockets
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.channel import Channel, Message, close_all
from hatchway.cluster.network.etcdefaults import etc_files
from hatchway.cluster.network.imagechanges import COPY, ImageChanges, ImageRoots
from hatchway.cluster.network.nodedirs import NodeDirectories
from hatchway.cluster.network.nodenetworks import NodeNetworks
from hatchway.cluster.network.noderoot import NodeRoots
from hatchway.cluster.network.overlay import mount_overlay
from hatchway.cluster.network.podaddresses import AddressPools
from hatchway.cluster.network.terminals import receive_terminal
from hatchway.cluster.packetrules import PacketFilter
from hatchway.cluster.runtime import (
    ContainerConfig,
    ContainerProcess,
    ControlGroups,
    Exit,
    ImageRoot,
    SandboxConfig,
    StartError,
    Users,
)

_LOOPBACK, _LOOPBACK_IPV6 = "127.0.0.1", "::1"

LIMITS = (
    "containers without an image see this machine's programs read-only and run as one user (setuid fails, chown "
    "changes nothing), and pods reach one another and services"
)


class PrivateProcess:
    """A process that init has started.

    key: the process's number in messages to and from init. pid: 0 while unknown. changes: the files that a container of
    an image has changed; None for other processes.
    """

    def __init__(self, runtime: PrivateRuntime, key: int) -> None:
        self._runtime = runtime
        self.key = key
        self.pid = 0
        self.terminal = -1
        self.changes: ImageChanges | None = None
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.new_user: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Exit:
        """Wait until the process has ended."""
        return await asyncio.shield(self.ended)

    def kill(self, signal: int) -> None:
        """Send the process a signal, through init; nothing happens when it has ended."""
        if not self.ended.done():
            self._runtime.tell({"op": "kill", "process": self.key, "signal": int(signal)})

    def handles_signal(self, signal: int) -> bool:
        """Return True when the process catches or blocks the signal, and when it has ended."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            # The process has ended, or is about to end.
            return True
        # A program that waits for signals by sigwait(3) or signalfd(2) blocks them.
        masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigBlk:", "SigCgt:"))]
        return any(int(mask, 16) >> (signal - 1) & 1 for mask in masks)

    def written_bytes(self) -> int:
        """Return the bytes in the container's root: in its tmpfs, or in the directory with the changes to its image.

        0 when the process has changed its root, or has ended.
        """
        try:
            if self.changes is not None and not self.ended.done():
                return self.changes.measure()
            if self.ended.done() or not _has_own_root(self.pid):
                return 0
            found = os.statvfs(f"/proc/{self.pid}/root")
        except OSError:
            # The process has ended meanwhile.
            return 0
        return (found.f_blocks - found.f_bfree) * found.f_frsize


class PrivateSandbox:
    """A pod's namespaces.

    name: the sandbox's name in messages to and from init. ip: its address. network: a descriptor of its network
    namespace, which this
    object owns. release: called when all of its processes have ended.
    """

    def __init__(self, runtime: PrivateRuntime, name: str, ip: str, network: int, release: Callable[[], None]) -> None:
        self._runtime = runtime
        self._name = name
        self._network = network
        self._release = release
        self._removal: asyncio.Task[None] | None = None
        self.ip = ip

    async def start(self, config: ContainerConfig) -> ContainerProcess:
        """Start a container in this sandbox. Raises StartError."""
        image, changes = (None, None) if config.root is None else await self._runtime.images.prepare(config.root)
        more = {
            "mounts": [asdict(mount) for mount in config.mounts],
            "read_only_root": config.read_only_root,
            "image": image,
            "privileges": asdict(config.privileges),
        }
        message: Message = {"op": "start", "sandbox": self._name}
        if isinstance(config.processes_of, PrivateProcess):
            message["container"] = config.processes_of.key
        process = await self._runtime.start(message, config, more)
        process.changes = changes
        return process

    async def exec(self, container: ContainerProcess, config: ContainerConfig) -> ContainerProcess:
        """Start a process in the namespaces of a running container. Raises StartError."""
        if not isinstance(container, PrivateProcess):
            raise StartError("the container belongs to another runtime")
        message = {"op": "exec", "sandbox": self._name, "container": container.key}
        return await self._runtime.start(message, config, {})

    async def dial(self, port: int, timeout: float = 10.0) -> socket.socket:
        """Connect to a port of the pod's loopback. Raises OSError."""
        (sock,) = self.make_sockets(1, socket.AF_INET)
        try:
            return await sockets.connect(_LOOPBACK, port, timeout, sock)
        except ConnectionRefusedError as error:
            # Some programs listen on `localhost`, which they resolve to ::1 only. Container runtimes try ::1, too.
            try:
                (sock,) = self.make_sockets(1, socket.AF_INET6)
                return await sockets.connect(_LOOPBACK_IPV6, port, timeout, sock)
            except OSError:
                raise error from None

    def make_sockets(self, count: int, family: socket.AddressFamily) -> list[socket.socket]:
        """Return unconnected sockets of the pod's network. Raises OSError."""
        if self._network < 0:
            raise OSError(errno.ENETDOWN, "the pod's network is gone")
        made: list[socket.socket] = []
        try:
            with self._runtime.sockets.inside(self._network):
                made += (sockets.new_stream(family) for _ in range(count))
        except BaseException:
            for sock in made:
                sock.close()
            raise
        return made

    async def remove(self) -> None:
        """Kill all processes of the sandbox, wait for their end, release the address. Idempotent."""
        if self._removal is None:
            self._removal = asyncio.get_running_loop().create_task(self._remove())
        await asyncio.shield(self._removal)

    async def _remove(self) -> None:
        network, self._network = self._network, -1
        os.close(network)
        await self._runtime.ask({"op": "remove", "sandbox": self._name})
        self._release()


class PrivateRuntime:
    """The sandboxes of the private network. Make it in an event loop.

    control: the socket to init. networks: opens sockets on nodes' addresses.
    directories: the directories that make up the nodes' file systems; None when nodes have none.
    packets: filters packets between pods; None where the kernel cannot filter them.
    users: the users that containers of images have. control_groups: enforces limits; None where limits are not
    enforced.

    closed: done when the network has ended.
    """

    isolation: Literal["private"] = "private"
    limits = LIMITS

    def __init__(
        self,
        control: socket.socket,
        networks: NodeNetworks,
        directories: NodeDirectories | None = None,
        packets: PacketFilter | None = None,
        users: Users = "one",
        control_groups: ControlGroups | None = None,
    ) -> None:
        self.control_groups = control_groups
        self.users = users
        self.images = ImageRoots()
        self.sockets = networks
        self.packets = packets
        self._roots = None if directories is None else NodeRoots(directories)
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._processes: dict[int, PrivateProcess] = {}
        self._sandboxes: dict[str, PrivateSandbox] = {}
        self._ids = itertools.count(1)
        self._pools = AddressPools(loopback=False)
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._channel = Channel(self._loop, control, self._received, self._lost)

    def close(self) -> None:
        """Close the connection to init. Init ends the whole network when this process ends."""
        self._channel.close()
        self._lost()

    async def create_sandbox(self, config: SandboxConfig) -> PrivateSandbox:
        """Make a sandbox, through init. Raises OSError, for example when no address is left."""
        pool = self._pools.of(config.node_index)
        ip = plan.node_ip(config.node_index) if config.sharing.network else pool.take()
        sandbox = f"{config.uid}/{next(self._ids)}"
        try:
            _, descriptors = await self._ask(
                {
                    "op": "sandbox",
                    "sandbox": sandbox,
                    "node": config.node_index,
                    "sharing": asdict(config.sharing),
                    "hostname": config.hostname,
                    "ip": ip,
                    "gateway": plan.gateway(config.node_index),
                    "etc": etc_files(config.etc(ip), config.hostname),
                    "sysctls": {key.replace(".", "/"): value for key, value in config.sysctls.items()},
                }
            )
        except OSError:
            pool.give_back(ip)
            raise
        except asyncio.CancelledError:
            # Init handles messages in order: before it reads this message, it has made the sandbox, or has failed to do
            # so.
            self.tell({"op": "remove", "sandbox": sandbox, "id": next(self._ids)})
            pool.give_back(ip)
            raise
        if not descriptors:
            self.tell({"op": "remove", "sandbox": sandbox, "id": next(self._ids)})
            pool.give_back(ip)
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

        def release() -> None:
            pool.give_back(ip)
            if self._sandboxes.get(config.uid) is made:
                del self._sandboxes[config.uid]

        made = self._sandboxes[config.uid] = PrivateSandbox(self, sandbox, ip, descriptors[0], release)
        return made

    def make_pod_sockets(self, uid: str, count: int, family: socket.AddressFamily) -> list[socket.socket]:
        """Return unconnected sockets in the network of a pod. Raises OSError; ENETDOWN when it has none."""
        sandbox = self._sandboxes.get(uid)
        if sandbox is None:
            raise OSError(errno.ENETDOWN, "the pod's network is gone")
        return sandbox.make_sockets(count, family)

    async def dial(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """Connect to an address. Raises OSError; EHOSTUNREACH at once for an unused address of the pods' range."""
        if ip not in self._pools and _is_pod_address(ip):
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        return await sockets.connect(ip, port, timeout)

    async def listen(self, ip: str, port: int) -> socket.socket:
        """Listen on a node's or service's address. Raises OSError."""
        return self.sockets.listen(ip, port)

    # Files

    def locate(self, node_index: int, path: str) -> tuple[str, str]:
        """Return the node's root directory, and `path` unchanged: the path below that directory. Raises OSError."""
        if self._roots is None:
            raise OSError(errno.ENOENT, "nodes have no file systems here")
        return self._roots.locate(node_index, path)

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        """Mount a tmpfs at `path`, unless it is a mount point already. Return True. Raises OSError."""
        if not os.path.ismount(path):
            options = "mode=0700" if size is None else f"mode=0700,size={size}"
            linux.mount("tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
        return True

    async def show_image(self, root: ImageRoot, path: str) -> str:
        """Mount an image's layers at `path`, or copy them where no overlay is possible. Raises OSError, StartError."""
        if os.path.ismount(path):
            return path
        message, _ = await self.images.prepare(root)
        if message["copied"]:
            return f"{root.changes}/{COPY}"
        await asyncio.to_thread(mount_overlay, root.layers, root.changes, path)
        return path

    def unmount(self, path: str) -> None:
        """Unmount the file system at `path`; do nothing when none is mounted there. Raises OSError."""
        try:
            linux.umount(path, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
        except OSError as error:
            # EINVAL: nothing is mounted there.
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise

    # Init

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send init a message that has no answer."""
        self._channel.send(message, descriptors)

    async def ask(self, message: Message, descriptors: Sequence[int] = ()) -> Message:
        """Send a request and wait for its answer. Raises OSError with init's message."""
        answer, received = await self._ask(message, descriptors)
        close_all(received)
        return answer

    async def _ask(self, message: Message, descriptors: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """Send a request like `ask`; the caller owns the descriptors that come with the answer."""
        if self._channel.closed:
            raise ConnectionError("the private network is gone")
        number = next(self._ids)
        answer: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._answers[number] = answer
        try:
            self.tell({**message, "id": number}, descriptors)
            found, received = await asyncio.shield(answer)
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                close_all(answer.result()[1])
            raise
        finally:
            self._answers.pop(number, None)
        if "error" in found:
            close_all(received)
            raise OSError(found["error"])
        return found, received

    async def start(self, message: Message, config: ContainerConfig, more: dict[str, Any]) -> PrivateProcess:
        """Start a process, and kill it when the caller is cancelled meanwhile. Raises StartError."""
        process = PrivateProcess(self, next(self._ids))
        self._processes[process.key] = process
        sent = {
            "argv": config.argv,
            "env": config.env,
            "cwd": config.cwd,
            "oom_score": config.oom_score,
            "group": config.group,
            "terminal": config.terminal,
            "size": config.size,
            **more,
        }
        console, theirs = socket.socketpair() if config.terminal else (None, None)
        try:
            descriptors = (theirs.fileno(),) if theirs is not None else _streams(config)
            answer = await self.ask({**message, "process": process.key, "config": sent}, descriptors)
            if console is not None:
                # The process sends its terminal before its program runs.
                console.setblocking(False)
                process.terminal = receive_terminal(console)
        except OSError as error:
            process.kill(9)
            self._processes.pop(process.key, None)
            raise StartError(str(error)) from error
        except asyncio.CancelledError:
            process.kill(9)
            raise
        finally:
            for sock in (console, theirs):
                if sock is not None:
                    sock.close()
        process.pid = answer["pid"]
        return process

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if "exit" in message:
            close_all(descriptors)
            process = self._processes.pop(message["exit"], None)
            if process is not None:
                process.ended.set_result(_exit(message["status"]))
            return
        if "user" in message:
            close_all(descriptors)
            process = self._processes.get(message["user"])
            if process is not None and not process.new_user.done():
                process.new_user.set_result(f"{message['uid']}:{message['gid']}")
            return
        answer = self._answers.get(message["id"])
        if answer is not None and not answer.done():
            answer.set_result((message, descriptors))
        else:
            close_all(descriptors)

    def _lost(self) -> None:
        if self.closed.done():
            return
        self.closed.set_result(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the private network is gone"))
        for process in self._processes.values():
            process.ended.set_result(Exit(137, 9))
        self._processes.clear()


def _streams(config: ContainerConfig) -> tuple[int, ...]:
    outgoing = config.stdout, config.stderr
    return outgoing if config.stdin < 0 else (config.stdin, *outgoing)


def _is_pod_address(ip: str) -> bool:
    """Return True for an address of the pods' range, and for anything that is not an IPv4 address."""
    try:
        return ipaddress.IPv4Address(ip) in plan.POD_CIDR
    except ValueError:
        return True


def _has_own_root(pid: int) -> bool:
    """Return True while a process's root directory is the file system that was mounted for its container.

    A program may have changed its root (chroot(2)) to a volume, whose file system also has other files.
    """
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            if fields[4] == "/":
                return fields[3] == "/" and line.partition(" - ")[2].startswith("tmpfs ")
    return False


def _exit(status: int) -> Exit:
    code = os.waitstatus_to_exitcode(status)
    return Exit(code) if code >= 0 else Exit(128 - code, -code)
