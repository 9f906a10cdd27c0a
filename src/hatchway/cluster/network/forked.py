"""Runs code in a forked child before its program, and reports errors to its parent."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from hatchway.cluster.network.linuxnamespaces import open_namespace
from hatchway.cluster.network.programs import StartFailure

# The most bytes of an error that are reported.
ERROR_BYTES = 8192
# The most bytes of any message: a user can have 65536 groups.
_MESSAGE_BYTES = 1 << 20
# What begins no error.
_ACCOUNT = b"\0account "


class Report(NamedTuple):
    """One message of a child: an error; or "" when its program runs, unless one of the others is set.

    mounts: the descriptor that `report_mounts` sends; -1 without one. account: what `report_account` sends.
    """

    error: str
    mounts: int = -1
    account: dict[str, Any] | None = None


def report_pair() -> tuple[socket.socket, socket.socket]:
    """Return the parent's socket, non-blocking, and the child's. Raises OSError.

    The child's socket is closed when its program runs; `read_report` reads what comes before.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def report_mounts(report: socket.socket) -> None:
    """Send the parent a descriptor of the mount namespace that this process is in. Raises OSError.

    Call it before the program runs, which could enter another namespace, and while /proc is one that no container can
    change.
    """
    descriptor = open_namespace("self", "mnt")
    try:
        report.sendmsg([b"mounts"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))])
    finally:
        os.close(descriptor)


def report_account(report: socket.socket, account: Mapping[str, Any]) -> None:
    """Send the parent the user that a container has. Raises OSError."""
    report.send(_ACCOUNT + json.dumps(account).encode())


def read_report(report: socket.socket) -> Report:
    """Return one message of a child. Raises BlockingIOError while there is nothing to read.

    The caller owns the descriptor, which is close-on-exec.
    """
    data, found, _, _ = report.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in found:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(content) == 4:
            return Report("", mounts=int(struct.unpack("i", content)[0]))
    if data.startswith(_ACCOUNT):
        return Report("", account=json.loads(data[len(_ACCOUNT) :]))
    return Report(data.decode(errors="replace"))


class child_exits:
    """A block in a forked child, after which the process ends.

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
