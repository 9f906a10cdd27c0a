"""Makes connected and listening sockets, for all rooms of the cluster."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Protocol

BACKLOG = 1024
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


class PodNetworks(Protocol):
    """Makes sockets in pods' networks. Such a socket can be connected to its pod's loopback."""

    def take_now(self, uid: str) -> socket.socket | None:
        """Return an unconnected, non-blocking TCP socket of a pod's network; None when the caller must use `take`.

        Raises OSError.
        """
        ...

    async def take(self, uid: str) -> socket.socket:
        """Return a socket like `take_now`, but wait for it if necessary. Raises OSError."""
        ...

    async def take_ipv6(self, uid: str) -> socket.socket:
        """Return a socket like that of `take`, but for `::1`. Raises OSError."""
        ...


def new_stream(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """Return a TCP socket that `connect` can connect, in the network namespace that this thread is in."""
    return socket.socket(family, socket.SOCK_STREAM)


async def connect(ip: str, port: int, timeout: float, made: socket.socket | None = None) -> socket.socket:
    """Return a connected, non-blocking TCP socket. Raises OSError: ETIMEDOUT (TimeoutError) after `timeout` seconds.

    made: a socket of `new_stream` to connect; None makes one. It is closed when connecting fails.
    """
    sock = made if made is not None else new_stream()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex((ip, port))
        if number == errno.EINPROGRESS:
            # On this machine, the connection is usually made by now. Calling connect again costs much less than waiting
            # in the event loop.
            number = sock.connect_ex((ip, port))
        if number in _UNDER_WAY:
            await _connected(sock, ip, port, timeout)
        elif number not in (0, errno.EISCONN):
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket, ip: str, port: int, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock.fileno(), _resolve, writable)
    try:
        async with asyncio.timeout(timeout):
            await writable
    except TimeoutError:
        raise OSError(errno.ETIMEDOUT, f"connect to {ip}:{port}: {os.strerror(errno.ETIMEDOUT)}") from None
    finally:
        loop.remove_writer(sock.fileno())
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def listen(ip: str, port: int) -> socket.socket:
    """Return a listening, non-blocking TCP socket. Raises OSError (EADDRINUSE, EADDRNOTAVAIL)."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def datagram(ip: str, port: int) -> socket.socket:
    """Return a bound, non-blocking UDP socket. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((ip, port))
    except BaseException:
        sock.close()
        raise
    return sock
