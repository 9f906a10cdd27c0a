"""How the control plane, which is outside, gets sockets that are inside: the outside's `Dialer`, the inside's `DialServer`.

The socket itself comes out (SCM_RIGHTS): what flows over it afterwards has no extra hop.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import os
import socket
from typing import Protocol

from hatchway.cluster import plan
from hatchway.cluster.network import sockets
from hatchway.cluster.network.channel import Channel, Message, close_all
from hatchway.cluster.node.runtime import Runtime


class Dialer(Protocol):
    """What the control plane needs of the cluster's network."""

    async def connect(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """A connected, non-blocking TCP socket. Raises OSError (ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT)."""
        ...

    async def listen(self, ip: str, port: int) -> socket.socket:
        """A listening, non-blocking TCP socket on a node's or service's address. Raises OSError."""
        ...


class PrivateDialer:
    """The outer end. Must be made in an event loop; any number of requests may wait at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[socket.socket]] = {}
        self._channel = Channel(self._loop, sock, self._received, self._lost)

    async def connect(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        return await self._ask({"op": "dial", "ip": ip, "port": port, "timeout": timeout})

    async def listen(self, ip: str, port: int) -> socket.socket:
        return await self._ask({"op": "listen", "ip": ip, "port": port})

    def close(self) -> None:
        self._channel.close()
        self._lost()

    def interrupted(self) -> None:
        """The inner end is another one now, which knows nothing of what its predecessor was asked for."""
        self._lost()

    async def _ask(self, message: Message) -> socket.socket:
        if self._channel.closed:
            raise _gone()
        number = next(self._ids)
        waiting: asyncio.Future[socket.socket] = self._loop.create_future()
        self._waiting[number] = waiting
        self._channel.send({"id": number, **message})
        try:
            return await waiting
        finally:
            del self._waiting[number]
            if waiting.cancelled() and not self._channel.closed:
                self._channel.send({"op": "cancel", "id": number})

    def _received(self, message: Message, descriptors: list[int]) -> None:
        waiting = self._waiting.get(message["id"])
        if waiting is None or waiting.done():
            close_all(descriptors)
        elif descriptors:
            sock = socket.socket(fileno=descriptors[0])
            sock.setblocking(False)
            waiting.set_result(sock)
        else:
            waiting.set_exception(OSError(message["errno"], message["error"]))

    def _lost(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone())


def _gone() -> OSError:
    return OSError(errno.ENETDOWN, "the private network is gone")


class DialServer:
    """The inner end: answers one socket's requests with what the runtime connects. Must be made in an event loop."""

    def __init__(self, runtime: Runtime, sock: socket.socket) -> None:
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._channel = Channel(self._loop, sock, self._received, self._cancel_all)

    async def close(self) -> None:
        self._channel.close()
        tasks = list(self._tasks.values())
        self._cancel_all()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cancel_all(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def _received(self, message: Message, descriptors: list[int]) -> None:
        close_all(descriptors)
        number = message["id"]
        if message["op"] == "cancel":
            task = self._tasks.get(number)
            if task is not None:
                task.cancel()
            return
        self._tasks[number] = task = self._loop.create_task(self._answer(number, message))
        task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _answer(self, number: int, message: Message) -> None:
        try:
            if message["op"] == "dial":
                sock = await self._runtime.dial(message["ip"], message["port"], message["timeout"])
            else:
                sock = await self._runtime.listen(message["ip"], message["port"])
            with sock:
                self._channel.send({"id": number}, (sock.fileno(),))
        except OSError as error:
            # ETOOMANYREFS among them, when more descriptors are on their way than one user may have there.
            code = error.errno or errno.EIO
            self._channel.send({"id": number, "errno": code, "error": error.strerror or os.strerror(code)})
        except (OverflowError, ValueError) as error:
            # A port or an address that is none: whoever asked waits for an answer all the same.
            self._channel.send({"id": number, "errno": errno.EINVAL, "error": str(error)})


class LoopbackDialer:
    """The dialer where there is no private network: it connects to addresses of the cluster's plan and to no others."""

    def __init__(self) -> None:
        nodes = plan.LOOPBACK_NODES
        pods = (plan.pod_cidr(index, loopback=True) for index in range(nodes.num_addresses // 2))
        self._networks = (nodes, *pods)

    async def connect(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        self._check(ip)
        return await sockets.connect(ip, port, timeout)

    async def listen(self, ip: str, port: int) -> socket.socket:
        self._check(ip)
        return sockets.listen(ip, port)

    def _check(self, ip: str) -> None:
        try:
            address = ipaddress.IPv4Address(ip)
        except ValueError:
            address = None
        if address is None or not any(address in network for network in self._networks):
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
