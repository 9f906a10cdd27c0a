"""Opens sockets inside the private network for the control plane outside.

`PrivateDialer` is in the control plane, outside; `DialServer` is in the node agent, inside.

The connected socket itself is passed out (SCM_RIGHTS), so its data needs no extra hop.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import os
import socket
from collections.abc import Callable
from typing import Protocol

from hatchway.cluster import plan, sockets
from hatchway.cluster.network.channel import MAX_DESCRIPTORS, Channel, Message, close_all
from hatchway.cluster.network.podsockets import PodSockets
from hatchway.cluster.runtime import Runtime


class NetworkDialer(Protocol):
    """Connects and listens in the cluster's network, for the control plane."""

    async def connect(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """Return a connected, non-blocking TCP socket. Raises OSError (ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT)."""
        ...

    @property
    def pods(self) -> sockets.PodNetworks | None:
        """The networks of the pods; None in a cluster whose pods use the machine's network."""
        ...

    async def listen(self, ip: str, port: int) -> socket.socket:
        """Return a listening, non-blocking TCP socket on a node's or service's address. Raises OSError."""
        ...


class PrivateDialer:
    """The dialer's part in the control plane. Make it in an event loop.

    Any number of requests may wait at the same time.

    publish: opens sockets on addresses of this machine for the node agent; see `HostSockets.open`.
    """

    def __init__(self, sock: socket.socket, publish: Callable[[str, str, int], socket.socket] | None = None) -> None:
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[list[socket.socket]]] = {}
        self._pods = PodSockets(self._make_in_pod)
        self.pods: sockets.PodNetworks | None = self._pods
        self._channel = Channel(self._loop, sock, self._received, self._lost)

    async def connect(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """Ask the node agent to connect. Raises OSError; ENETDOWN when the network has ended."""
        (sock,) = await self._ask({"op": "dial", "ip": ip, "port": port, "timeout": timeout})
        return sock

    async def _make_in_pod(self, uid: str, count: int, family: socket.AddressFamily) -> list[socket.socket]:
        return await self._ask({"op": "sockets", "pod": uid, "count": count, "family": family})

    async def listen(self, ip: str, port: int) -> socket.socket:
        """Ask the node agent to listen. Raises OSError; ENETDOWN when the network has ended."""
        (sock,) = await self._ask({"op": "listen", "ip": ip, "port": port})
        return sock

    def close(self) -> None:
        """Close the channel; requests that wait fail with ENETDOWN."""
        self._pods.close()
        self._channel.close()
        self._lost()

    def fail_waiting(self) -> None:
        """Fail the waiting requests, because the node agent that got them has ended."""
        self._lost()

    async def _ask(self, message: Message) -> list[socket.socket]:
        if self._channel.closed:
            raise _gone()
        number = next(self._ids)
        waiting: asyncio.Future[list[socket.socket]] = self._loop.create_future()
        self._waiting[number] = waiting
        self._channel.send({"id": number, **message})
        try:
            return await waiting
        finally:
            del self._waiting[number]
            if waiting.cancelled() and not self._channel.closed:
                self._channel.send({"op": "cancel", "id": number})

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if "op" in message:
            close_all(descriptors)
            self._open_outside(message)
            return
        waiting = self._waiting.get(message["id"])
        if waiting is None or waiting.done():
            close_all(descriptors)
        elif descriptors:
            found = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            for sock in found:
                sock.setblocking(False)
            waiting.set_result(found)
        else:
            waiting.set_exception(OSError(message["errno"], message["error"]))

    def _open_outside(self, message: Message) -> None:
        """Answer the node agent's request for a socket on this machine. The node agent then owns the socket."""
        answer: Message = {"published": message["id"]}
        try:
            if self._publish is None:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            with self._publish(message["protocol"], message["ip"], message["port"]) as sock:
                self._channel.send(answer, (sock.fileno(),))
        except OSError as error:
            # Nothing was sent. This includes ETOOMANYREFS: too many descriptors are in flight for one user.
            code = error.errno or errno.EIO
            self._channel.send({**answer, "errno": code, "error": error.strerror or os.strerror(code)})

    def _lost(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone())


def _gone() -> OSError:
    return OSError(errno.ENETDOWN, "the private network is gone")


class DialServer:
    """The dialer's part in the node agent: answers requests with sockets that the runtime opens.

    Make it in an event loop.
    """

    def __init__(self, runtime: Runtime, sock: socket.socket) -> None:
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ids = itertools.count(1)
        self._published: dict[int, asyncio.Future[socket.socket]] = {}
        self._channel = Channel(self._loop, sock, self._received, self._lost)

    async def close(self) -> None:
        """Stop answering, and cancel the requests that are in progress."""
        self._channel.close()
        tasks = list(self._tasks.values())
        self._lost()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, protocol: str, ip: str, port: int) -> socket.socket:
        """Ask the control plane for a socket on an address of this machine, like `ServiceSockets.publish`.

        Raises OSError.
        """
        if self._channel.closed:
            raise _gone()
        number = next(self._ids)
        waiting: asyncio.Future[socket.socket] = self._loop.create_future()
        self._published[number] = waiting
        self._channel.send({"op": "publish", "id": number, "protocol": protocol, "ip": ip, "port": port})
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                waiting.result().close()
            raise
        finally:
            del self._published[number]

    def _lost(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for waiting in self._published.values():
            if not waiting.done():
                waiting.set_exception(_gone())

    def _was_published(self, message: Message, descriptors: list[int]) -> None:
        waiting = self._published.get(message["published"])
        if waiting is None or waiting.done():
            close_all(descriptors)
        elif descriptors:
            sock = socket.socket(fileno=descriptors.pop())
            close_all(descriptors)
            sock.setblocking(False)
            waiting.set_result(sock)
        else:
            waiting.set_exception(OSError(message["errno"], message["error"]))

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if "published" in message:
            self._was_published(message, descriptors)
            return
        close_all(descriptors)
        number = message["id"]
        if message["op"] == "cancel":
            task = self._tasks.get(number)
            if task is not None:
                task.cancel()
            return
        if message["op"] == "sockets":
            self._make_in_pod(number, message["pod"], message["count"], socket.AddressFamily(message["family"]))
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
            # This includes ETOOMANYREFS: too many descriptors are in flight for one user.
            self._send_error(number, error)
        except (OverflowError, ValueError) as error:
            # The request has no valid port or address, but the caller still waits for a response.
            self._channel.send({"id": number, "errno": errno.EINVAL, "error": str(error)})

    def _make_in_pod(self, number: int, uid: str, count: int, family: socket.AddressFamily) -> None:
        made: list[socket.socket] = []
        try:
            made += self._runtime.make_pod_sockets(uid, min(count, MAX_DESCRIPTORS), family)
            self._channel.send({"id": number}, [sock.fileno() for sock in made])
        except OSError as error:
            self._send_error(number, error)
        finally:
            for sock in made:
                sock.close()

    def _send_error(self, number: int, error: OSError) -> None:
        code = error.errno or errno.EIO
        self._channel.send({"id": number, "errno": code, "error": error.strerror or os.strerror(code)})


class LoopbackDialer:
    """The dialer where there is no private network.

    It connects only to addresses of the cluster's plan.
    """

    def __init__(self) -> None:
        nodes = plan.LOOPBACK_NODES
        pods = (plan.pod_cidr(index, loopback=True) for index in range(nodes.num_addresses // 2))
        self._networks = (nodes, *pods)
        # Pods have no networks of their own; only their kubelets know which addresses are theirs.
        self.pods: sockets.PodNetworks | None = None

    async def connect(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """Connect. Raises OSError; EHOSTUNREACH for an address that no cluster has."""
        self._check(ip)
        return await sockets.connect(ip, port, timeout)

    async def listen(self, ip: str, port: int) -> socket.socket:
        """Listen. Raises OSError; EHOSTUNREACH for an address that no cluster has."""
        self._check(ip)
        return sockets.listen(ip, port)

    def _check(self, ip: str) -> None:
        try:
            address = ipaddress.IPv4Address(ip)
        except ValueError:
            address = None
        if address is None or not any(address in network for network in self._networks):
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
