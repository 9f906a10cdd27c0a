"""The sockets that a door listens on, as `kubectl proxy` makes them (`staging/src/k8s.io/kubectl/pkg/proxy/proxy_server.go`)."""

from __future__ import annotations

import errno
import os
import socket
import stat

from hatchway.door.options import Options
from hatchway.errors import HatchwayError

_BACKLOG = 1024
_HINTS = {
    errno.EADDRINUSE: "another door or `kubectl proxy` may run there; --port 0 takes any free port",
    errno.EADDRNOTAVAIL: "--address takes an address of this machine: 127.0.0.1 for yourself, 0.0.0.0 for everyone",
    errno.EACCES: "ports below 1024 may be root's; --port 8001 is not",
}


def listen(options: Options) -> list[socket.socket]:
    """Listening sockets, one for each address. Raises HatchwayError when there is none to listen on."""
    if options.unix_socket:
        return [_listen_unix(options.unix_socket)]
    addresses = ["127.0.0.1", "::1"] if options.address == "localhost" else [options.address or "0.0.0.0"]
    found: list[socket.socket] = []
    port = options.port
    for address in addresses:
        address = address.removeprefix("[").removesuffix("]")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.create_server((address, port), family=family, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            if found:
                continue  # a machine without IPv6
            # asyncio and socket spell the call out in `strerror`.
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise HatchwayError(
                f"cannot listen on {address}:{port}: {why.lower()}", _HINTS.get(getattr(error, "errno", None) or 0, "")
            ) from error
        port = sock.getsockname()[1]
        found.append(sock)
    return found


def _listen_unix(path: str) -> socket.socket:
    """A socket that only this user may open; one that was left behind is replaced."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _lives(path):
            os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o077)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise HatchwayError(f"cannot listen on {path}: {(error.strerror or str(error)).lower()}") from error
    finally:
        os.umask(before)
    sock.listen(_BACKLOG)
    return sock


def _lives(path: str) -> bool:
    """Whether somebody listens there: `kubectl proxy` would take the socket away from them."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(path) == 0


def printed(sock: socket.socket) -> str:
    """Where a socket listens, as `kubectl proxy` prints it: `127.0.0.1:8001`, `[::1]:8001`, or a path."""
    name = sock.getsockname()
    if isinstance(name, str):
        return name
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
