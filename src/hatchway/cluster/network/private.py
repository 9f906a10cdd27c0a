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

from hatchway.cluster import plan
from hatchway.cluster.network import sockets
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.addresses import Pools
from hatchway.cluster.network.channel import Channel, Message, close_all
from hatchway.cluster.network.etcfiles import etc_files
from hatchway.cluster.network.nodedirs import NodeDirectories
from hatchway.cluster.network.noderoot import NodeRoots
from hatchway.cluster.node.runtime import ContainerConfig, Exit, Process, StartError

LIMITS = (
    "containers see this machine's programs read-only and run as one user (chown and switching users fail), "
    "and pods reach one another and services, but nothing outside the cluster"
)


class PrivateProcess:
    """A process that init has started."""

    def __init__(self, runtime: PrivateRuntime, key: int) -> None:
        self._runtime = runtime
        self.key = key
        self.pid = 0
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Exit:
        return await asyncio.shield(self.ended)

    def kill(self, signal: int) -> None:
        if not self.ended.done():
            self._runtime.tell({"op": "kill", "process": self.key, "signal": int(signal)})

    def hears(self, signal: int) -> bool:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            # It has ended, or is about to.
            return True
        # Whoever waits for signals by sigwait(3) or signalfd(2) blocks them and catches none.
        masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigBlk:", "SigCgt:"))]
        return any(int(mask, 16) >> (signal - 1) & 1 for mask in masks)


class PrivateSandbox:
    """A pod's namespaces, kept by init under the name `uid`."""

    def __init__(self, runtime: PrivateRuntime, name: str, ip: str, release: Callable[[], None]) -> None:
        self._runtime = runtime
        self._name = name
        self._release = release
        self._removal: asyncio.Task[None] | None = None
        self.ip = ip

    async def start(self, config: ContainerConfig) -> Process:
        more = {"mounts": [asdict(mount) for mount in config.mounts], "read_only_root": config.read_only_root}
        return await self._runtime.start({"op": "start", "sandbox": self._name}, config, more)

    async def exec(self, container: Process, config: ContainerConfig) -> Process:
        if not isinstance(container, PrivateProcess):
            raise StartError("the container belongs to another runtime")
        message = {"op": "exec", "sandbox": self._name, "container": container.key}
        return await self._runtime.start(message, config, {})

    async def remove(self) -> None:
        if self._removal is None:
            self._removal = asyncio.get_running_loop().create_task(self._remove())
        await asyncio.shield(self._removal)

    async def _remove(self) -> None:
        await self._runtime.ask({"op": "remove", "sandbox": self._name})
        self._release()


class PrivateRuntime:
    """All sandboxes of the private network. Must be made in an event loop. control: the socket to init. directories:
    what nodes' file systems are made of; without it they have none."""

    isolation: Literal["private"] = "private"
    limits = LIMITS

    def __init__(self, control: socket.socket, directories: NodeDirectories | None = None) -> None:
        self._roots = None if directories is None else NodeRoots(directories)
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._processes: dict[int, PrivateProcess] = {}
        self._ids = itertools.count(1)
        self._pools = Pools(loopback=False)
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._channel = Channel(self._loop, control, self._received, self._lost)

    def close(self) -> None:
        """Leave init, which then ends the whole network when this process ends."""
        self._channel.close()
        self._lost()

    async def create_sandbox(
        self, *, node_index: int, uid: str, namespace: str, name: str, hostname: str, etc: dict[str, str]
    ) -> PrivateSandbox:
        """Raises OSError when it cannot be made (no address is left)."""
        pool = self._pools.of(node_index)
        ip = pool.take()
        sandbox = f"{uid}/{next(self._ids)}"
        try:
            await self.ask(
                {
                    "op": "sandbox",
                    "sandbox": sandbox,
                    "hostname": hostname,
                    "ip": ip,
                    "prefix": plan.POD_CIDR.prefixlen,
                    "gateway": str(plan.pod_cidr(node_index)[1]),
                    "etc": etc_files(etc, hostname, ip),
                }
            )
        except OSError:
            pool.give_back(ip)
            raise
        except asyncio.CancelledError:
            # Init works in order: it has made the sandbox, or failed to, when it reads this.
            self.tell({"op": "remove", "sandbox": sandbox, "id": next(self._ids)})
            pool.give_back(ip)
            raise
        return PrivateSandbox(self, sandbox, ip, lambda: pool.give_back(ip))

    async def dial(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """Raises OSError; EHOSTUNREACH at once for a pod's address that no pod has."""
        if ip not in self._pools and _is_pod_address(ip):
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        return await sockets.connect(ip, port, timeout)

    async def listen(self, ip: str, port: int) -> socket.socket:
        return sockets.listen(ip, port)

    # Files

    def locate(self, node_index: int, path: str) -> tuple[str, str]:
        if self._roots is None:
            raise OSError(errno.ENOENT, "nodes have no file systems here")
        return self._roots.locate(node_index, path)

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        if not os.path.ismount(path):
            options = "mode=0700" if size is None else f"mode=0700,size={size}"
            linux.mount("tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
        return True

    def unmount(self, path: str) -> None:
        try:
            linux.umount(path, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
        except OSError as error:
            # EINVAL: nothing is mounted there.
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise

    # Init

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(message, descriptors)

    async def ask(self, message: Message, descriptors: Sequence[int] = ()) -> Message:
        """Send a request and wait for its answer. Raises OSError with init's words."""
        if self._channel.closed:
            raise ConnectionError("the private network is gone")
        number = next(self._ids)
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._answers[number] = answer
        try:
            self.tell({**message, "id": number}, descriptors)
            found = await answer
        finally:
            self._answers.pop(number, None)
        if "error" in found:
            raise OSError(found["error"])
        return found

    async def start(self, message: Message, config: ContainerConfig, more: dict[str, Any]) -> PrivateProcess:
        """Start a process; when the caller is cancelled meanwhile, it is killed. Raises StartError."""
        process = PrivateProcess(self, next(self._ids))
        self._processes[process.key] = process
        sent = {"argv": config.argv, "env": config.env, "cwd": config.cwd, **more}
        try:
            answer = await self.ask({**message, "process": process.key, "config": sent}, (config.stdout, config.stderr))
        except OSError as error:
            self._processes.pop(process.key, None)
            raise StartError(str(error)) from error
        except asyncio.CancelledError:
            process.kill(9)
            raise
        process.pid = answer["pid"]
        return process

    def _received(self, message: Message, descriptors: list[int]) -> None:
        close_all(descriptors)
        if "exit" in message:
            process = self._processes.pop(message["exit"], None)
            if process is not None:
                process.ended.set_result(_exit(message["status"]))
            return
        answer = self._answers.get(message["id"])
        if answer is not None and not answer.done():
            answer.set_result(message)

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


def _is_pod_address(ip: str) -> bool:
    """Whether it is from the pods' range, or no IPv4 address at all, which nobody has either."""
    try:
        return ipaddress.IPv4Address(ip) in plan.POD_CIDR
    except ValueError:
        return True


def _exit(status: int) -> Exit:
    code = os.waitstatus_to_exitcode(status)
    return Exit(code) if code >= 0 else Exit(128 - code, -code)
