"""Listens at, serves and connects to Unix sockets whose paths may be longer than a socket's address.

An address holds 107 bytes (unix(7)), and state directories may have longer paths. So on Linux the directory is opened,
and the address goes through `/proc/self/fd`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["connect", "listen", "serve"]


def listen(path: Path, backlog: int = 64) -> socket.socket:
    """Return a non-blocking listening socket at `path`, which only this user can open. Raises OSError.

    A socket that an earlier process has left at `path` is replaced.
    """
    path.unlink(missing_ok=True)
    with _address(path) as address:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.setblocking(False)
            sock.bind(address)
            # No client can connect before `listen`, so the mode may be set here.
            path.chmod(0o600)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    return sock


def connect(path: Path) -> socket.socket:
    """Return a socket that is connected to the listener at `path`. Raises OSError.

    This blocks only while the listener's queue is full, for five seconds at most.
    """
    with _address(path) as address:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(5.0)
            sock.connect(address)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    return sock


async def serve(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], sock: socket.socket, limit: int
) -> asyncio.Server:
    """Serve connections to a socket that `listen` has returned. The socket's file is not deleted. Raises OSError.

    limit: the most bytes that a reader buffers.
    """
    # Since Python 3.13 a server deletes the file at the socket's address. This address leads through a closed
    # descriptor.
    more: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
    return await asyncio.start_unix_server(handler, sock=sock, limit=limit, **more)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    if sys.platform != "linux":
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
