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
# With any free port: how many ports are tried until one is free on 127.0.0.1 and on ::1.
_ATTEMPTS = 20
# The errors for an address that this machine does not have, for example because it has no IPv6.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
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

    For 127.0.0.1 and "localhost" these are both 127.0.0.1 and ::1, unless this machine lacks one of them. If another
    program listens on one of the two, the door must not listen on the other address alone. For `*.localhost`, Chromium
    tries ::1 first, so a program on ::1 would get requests and cookies that are meant for the door.

    Raises:
        HatchwayError: the door cannot listen on the address.
    """
    if options.unix_socket:
        return [_listen_unix(options.unix_socket)]
    if options.address not in ("127.0.0.1", "localhost"):
        address = (options.address or "0.0.0.0").removeprefix("[").removesuffix("]")
        return _listen_on([address], options.port)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _listen_on(["127.0.0.1", "::1"], options.port)
        except HatchwayError as error:
            # The port that was free on 127.0.0.1 may be in use on ::1.
            if options.port or attempt == _ATTEMPTS or _number_of(error.__cause__) != errno.EADDRINUSE:
                raise
    raise AssertionError("the last attempt returns or raises")


def _listen_on(addresses: list[str], port: int) -> list[socket.socket]:
    """Return listening sockets with the same port. Of several addresses, those that this machine lacks are left out.

    port: 0 for any free port.

    Raises:
        HatchwayError: with the OSError or OverflowError as its cause.
    """
    found: list[socket.socket] = []
    absent: HatchwayError | None = None
    for address in addresses:
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.create_server((address, port), family=family, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            problem = _problem(address, port, error)
            if len(addresses) > 1 and _number_of(error) in _ABSENT:
                absent = absent or problem
                continue
            for other in found:
                other.close()
            raise problem from error
        port = sock.getsockname()[1]
        found.append(sock)
    if not found and absent is not None:
        raise absent
    return found


def _problem(address: str, port: int, error: OSError | OverflowError) -> HatchwayError:
    number = _number_of(error)
    # `create_server` adds words to `strerror`, so the text is looked up by the number.
    why = os.strerror(number) if number else str(error)
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return HatchwayError(f"cannot listen on {where}: {why.lower()}", _HINTS.get(number, ""))


def _number_of(error: BaseException | None) -> int:
    """Return the number of an operating system's error; 0 for other errors."""
    return (error.errno or 0) if isinstance(error, OSError) else 0


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
