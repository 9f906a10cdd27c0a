"""Opens the sockets on which a door listens, as `kubectl proxy` does (kubectl `pkg/proxy/proxy_server.go`)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from hatchway.door.dooroptions import DoorOptions
from hatchway.errors import HatchwayError

_BACKLOG = 1024
_HINTS = {
    errno.EADDRINUSE: "another door or `kubectl proxy` may run there; --port 0 takes any free port",
    errno.EADDRNOTAVAIL: "--address takes an address of this machine: 127.0.0.1 for yourself, 0.0.0.0 for everyone",
    errno.EACCES: "only root may listen on ports below 1024; --port 8001 is free for everyone",
}
_UNIX_HINTS = {
    errno.EADDRINUSE: "another program listens there, or the file is no socket; --unix-socket takes another path",
    errno.EACCES: "you may not create files there; --unix-socket takes another path",
    errno.ENOENT: "create the directory first, or give --unix-socket another path",
}


def listen(options: DoorOptions) -> list[socket.socket]:
    """Return listening sockets, one for each address.

    Raises:
        HatchwayError: the door cannot listen on the address (for "localhost": on 127.0.0.1).
    """
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
            # `create_server` adds words to `strerror`, so the text is looked up by the number.
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise HatchwayError(
                f"cannot listen on {address}:{port}: {why.lower()}", _HINTS.get(getattr(error, "errno", None) or 0, "")
            ) from error
        port = sock.getsockname()[1]
        found.append(sock)
    return found


def _listen_unix(path: str) -> socket.socket:
    """Return a socket to which only this user can connect.

    A socket file that no process serves any more is replaced.
    """
    # Errors are ignored here, because `bind` will fail for the same reason and report it.
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _is_served(path):
            os.unlink(path)
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o077)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise HatchwayError(
            f"cannot listen on {path}: {(error.strerror or str(error)).lower()}",
            _UNIX_HINTS.get(error.errno or 0, "choose another path with --unix-socket"),
        ) from error
    finally:
        os.umask(before)
    sock.listen(_BACKLOG)
    return sock


def _is_served(path: str) -> bool:
    """Return True when a process listens on the socket, so that it must not be replaced."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(path) == 0


def describe_listener(sock: socket.socket) -> str:
    """Return a listening socket's address as `kubectl proxy` prints it: `127.0.0.1:8001`, `[::1]:8001`, or a path."""
    name = sock.getsockname()
    if isinstance(name, str):
        return name
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
