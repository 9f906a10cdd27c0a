"""Runs code in a forked child before its program, and reports errors to its parent."""

from __future__ import annotations

import os
import socket
import struct
from typing import NoReturn

from hatchway.cluster.network.linuxnamespaces import open_namespace
from hatchway.cluster.network.programs import StartFailure

# The most bytes of an error that are reported.
ERROR_BYTES = 8192


def report_pair() -> tuple[socket.socket, socket.socket]:
    """Return the parent's socket, non-blocking, and the child's. Raises OSError.

    The child's socket is closed when its program runs; `read_report` reads what comes before.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def report_mounts(report: socket.socket) -> None:
    """Send the parent a descriptor of the mount namespace that this process is in. Raises OSError.

    Call it before the program runs, which could enter another namespace.
    """
    descriptor = open_namespace("self", "mnt")
    try:
        report.sendmsg([b"mounts"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))])
    finally:
        os.close(descriptor)


def read_report(report: socket.socket) -> tuple[str, int]:
    """Return one message of a child: an error and -1, "" when its program runs; or "" and what `report_mounts` sends.

    The caller owns the descriptor, which is close-on-exec. Raises BlockingIOError while there is nothing to read.
    """
    data, found, _, _ = report.recvmsg(ERROR_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in found:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(content) == 4:
            return "", int(struct.unpack("i", content)[0])
    return data.decode(errors="replace"), -1


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
