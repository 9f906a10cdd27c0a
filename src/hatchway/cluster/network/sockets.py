"""Connecting and listening, as every part of this room does it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

BACKLOG = 1024


async def connect(ip: str, port: int, timeout: float) -> socket.socket:
    """A connected, non-blocking TCP socket. Raises OSError: ETIMEDOUT (TimeoutError) after `timeout` seconds."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex((ip, port))
        if number in (errno.EINPROGRESS, errno.EWOULDBLOCK):
            await _connected(sock, ip, port, timeout)
        elif number:
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
    """A listening, non-blocking TCP socket. Raises OSError (EADDRINUSE, EADDRNOTAVAIL)."""
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
    """A bound, non-blocking UDP socket. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((ip, port))
    except BaseException:
        sock.close()
        raise
    return sock
