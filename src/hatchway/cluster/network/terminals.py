"""Opens a terminal (pty(7)) in a container's new process, and sends the other end to the node agent."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import termios

# <asm-generic/ioctls.h>; Python's termios has no names for them.
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
_PTMX = os.makedev(5, 2)


def open_terminal() -> tuple[int, int]:
    """Open a terminal of the /dev/pts that this process sees. Raises OSError.

    Return the end for the node agent, which is non-blocking, and the end for the programs.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    shown = os.open("/dev/pts/ptmx", flags | os.O_NOFOLLOW)
    try:
        found = os.fstat(shown)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX:
            # A container may put another file in the place of `ptmx`.
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        fcntl.ioctl(shown, _TIOCSPTLCK, struct.pack("i", 0))
        # Do not open the programs' end by its name, because a container may put another file there.
        return shown, fcntl.ioctl(shown, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(shown)
        raise


def adopt_terminal(descriptor: int) -> None:
    """Make a terminal this process's standard streams, and the controlling terminal of its session. Raises OSError.

    The process must lead a session that has no terminal yet.
    """
    for target in range(3):
        os.dup2(descriptor, target)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def hand_over(console: int, descriptor: int) -> None:
    """Send a descriptor over the socket `console`. Raises OSError."""
    with socket.socket(fileno=console) as sock:
        sock.sendmsg([b"terminal"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))])


def receive_terminal(console: socket.socket) -> int:
    """Return the descriptor that `hand_over` has sent before; it is close-on-exec. Raises OSError."""
    _, found, _, _ = console.recvmsg(64, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in found:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) == 4:
            return int(struct.unpack("i", data)[0])
    raise OSError(errno.ENOTTY, "the process has sent no terminal")
