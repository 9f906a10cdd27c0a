"""Runs code in a forked child before its program, and reports errors to its parent."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from hatchway.cluster.network.commandlookup import StartFailure
from hatchway.cluster.network.linuxnamespaces import open_namespace

# The maximum number of bytes of an error that are reported.
ERROR_BYTES = 8192
# The maximum number of bytes of any message: a user can have 65536 groups.
_MESSAGE_BYTES = 1 << 20
# The first bytes of messages that are not errors: a request for a user namespace; the user of a container.
_WANTED_USERS, _ACCOUNT = b"\0users ", b"\0account "

_LISTENER = b"listener"


def report_pair() -> tuple[socket.socket, socket.socket]:
    """Return the parent's socket (non-blocking) and the child's socket. Raises OSError.

    The kernel closes the child's socket when the child executes its program. `read_report` reads the messages that the
    child sends before.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def report_mounts(report: socket.socket) -> None:
    """Send the parent a descriptor of the mount namespace that this process is in. Raises OSError.

    Call it before the program runs, because the program could enter another namespace. At that time, /proc must be one
    that no container can change.
    """
    descriptor = open_namespace("self", "mnt")
    try:
        report.sendmsg([b"mounts"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))])
    finally:
        os.close(descriptor)


def report_listener(report: socket.socket, listener: int) -> None:
    """Send the parent the descriptor for answering a container's changes of users (`userchanges.py`).

    Raises OSError.
    """
    report.sendmsg([_LISTENER], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", listener))])


def report_account(report: socket.socket, account: Mapping[str, Any]) -> None:
    """Send the parent the user that a container of an image has. Raises OSError."""
    report.send(_ACCOUNT + json.dumps(account).encode())


def ask_for_users(report: socket.socket, uid: int, gid: int) -> int:
    """Ask the parent for a user namespace with only the user `uid` and the group `gid`; return its descriptor.

    report: the child's end of `report_pair`. Raises OSError.
    """
    report.send(_WANTED_USERS + f"{uid} {gid}".encode())
    data, descriptor = _receive(report)
    if descriptor < 0:
        raise OSError(errno.EPERM, data.decode(errors="replace") or os.strerror(errno.EPERM))
    return descriptor


def answer_users(report: socket.socket, users: int | OSError) -> None:
    """Answer `ask_for_users` with a copy of a namespace's descriptor, or with the reason why there is none.

    Do nothing when the child has ended meanwhile.
    """
    with contextlib.suppress(ConnectionError):
        if isinstance(users, OSError):
            report.send((users.strerror or str(users)).encode(errors="replace")[:ERROR_BYTES])
        else:
            report.sendmsg([b"users"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", users))])


class Report(NamedTuple):
    """One message of a child.

    text: an error; "" when its program runs, or when another field is set.
    mounts: the descriptor of `report_mounts`, which the receiver owns; -1 for none.
    users: the user and group for which `ask_for_users` wants a namespace; None for none.
    account: the account of `report_account`; None for none.
    listener: the descriptor of `report_listener`, which the receiver owns; -1 for none.
    """

    text: str = ""
    mounts: int = -1
    users: tuple[int, int] | None = None
    account: dict[str, Any] | None = None
    listener: int = -1


def read_report(report: socket.socket) -> Report:
    """Return one message of a child. Raises BlockingIOError while there is nothing to read.

    Descriptors are close-on-exec.
    """
    data, descriptor = _receive(report)
    if descriptor >= 0:
        return Report(listener=descriptor) if data == _LISTENER else Report(mounts=descriptor)
    if data.startswith(_WANTED_USERS):
        uid, gid = data.removeprefix(_WANTED_USERS).split()
        return Report(users=(int(uid), int(gid)))
    if data.startswith(_ACCOUNT):
        return Report(account=json.loads(data.removeprefix(_ACCOUNT)))
    return Report(data.decode(errors="replace"))


def _receive(report: socket.socket) -> tuple[bytes, int]:
    """Return a message, and the descriptor that has come with it; -1 for none."""
    data, found, _, _ = report.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in found:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(content) == 4:
            return data, int(struct.unpack("i", content)[0])
    return data, -1


class child_exits:
    """Run a block in a forked child, and end the process after it.

    An error is written to the descriptor `report`, or to stderr without one.
    """

    def __init__(self, report: int = 2) -> None:
        self._report = report

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> NoReturn:
        try:
            text = str(error) if isinstance(error, StartFailure) else f"cannot start the process: {error!r}"
            os.write(self._report, text.encode(errors="replace")[:ERROR_BYTES])
        finally:
            os._exit(127)
