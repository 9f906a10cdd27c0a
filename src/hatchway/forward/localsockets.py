"""Opens the local sockets of forwards: on an IP address with a port, or on a path (Unix sockets)."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from hatchway.errors import HatchwayError

_BACKLOG = 512
_OTHER_PORT: Final = "choose another local port (LOCAL:PORT), or write :PORT for any free one"


def listen_tcp(address: str, port: int, label: str, *, exact: bool) -> socket.socket:
    """Open a listening TCP socket. For arguments and errors, see `listen_udp`."""
    return _listen(address, port, label, socket.SOCK_STREAM, exact=exact)


def listen_udp(address: str, port: int, label: str, *, exact: bool) -> socket.socket:
    """Open a UDP socket that receives datagrams.

    Args:
        address: an IP address of this machine.
        port: the port; 0 for any free one.
        label: the forward's name in error messages.
        exact: True to fail when this port cannot be used; False to use any free port instead.

    Raises:
        HatchwayError: the socket cannot be opened.
    """
    return _listen(address, port, label, socket.SOCK_DGRAM, exact=exact)


def _listen(address: str, port: int, label: str, kind: socket.SocketKind, *, exact: bool) -> socket.socket:
    try:
        return _bind(address, port, kind)
    except OSError as error:
        if not exact and port and error.errno in (errno.EADDRINUSE, errno.EACCES):
            with suppress(OSError):
                return _bind(address, 0, kind)
        raise HatchwayError(
            f"{label}: cannot listen on {address}:{port}: {_reason(error)}", _hint(error, address)
        ) from error


def _bind(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        # SO_REUSEADDR is not set for UDP, where it would let another program share the port.
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _hint(error: OSError, address: str) -> str:
    if error.errno == errno.EACCES:
        return f"only root may listen on ports below 1024; {_OTHER_PORT}"
    if error.errno == errno.EADDRINUSE:
        return f"another program or another forward listens there; {_OTHER_PORT}"
    if error.errno == errno.EADDRNOTAVAIL and address.startswith("127."):
        return f"this system has only 127.0.0.1; `sudo ifconfig lo0 alias {address}` adds this one (macOS)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "--address takes an address of this machine: 127.0.0.1 for yourself, 0.0.0.0 for everyone"
    return ""


def listen_unix(path: str, label: str) -> socket.socket:
    """Open a listening Unix socket that only this user may use. A socket file without a listener is replaced.

    Raises:
        HatchwayError: the socket cannot be opened.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        hint = "a socket's path has about 100 characters at most" if "too long" in str(error) else ""
        if error.errno == errno.EADDRINUSE:
            hint = "another program listens there, or the file is not a socket"
        elif error.errno in (errno.EACCES, errno.ENOENT):
            hint = "--unix-socket takes a path in a directory that exists and in which you may create files"
        raise HatchwayError(f"{label}: cannot listen on {path}: {_reason(error)}", hint) from error
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file that has no listener any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except OSError:
            return
