"""Listens at and connects to Unix sockets whose paths may be longer than a socket's address.

An address holds 107 bytes (unix(7)), and state directories may have longer paths. So on Linux the directory is opened,
and the address goes through `/proc/self/fd`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["connect", "listen"]


def listen(path: Path, backlog: int = 64) -> socket.socket:
    """Return a non-blocking listening socket at `path`, which only this user can open. Raises OSError.

    A socket that an earlier process has left there is replaced.
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
    """Return a socket that is connected to the one at `path`. Raises OSError.

    It blocks only while the listener's queue is full.
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
