"""Joins two connected sockets of the service proxy: the bytes of each are written to the other one.

`proxy/join.py` does the same for transports. This module uses sockets directly, and all connections share one buffer,
so a new connection costs little, and data is not copied in Python. The two directions are independent: the end of one
(FIN) is passed on while the other continues. While one socket's buffer is full, reading from the other socket is
paused.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from hatchway.cluster.services.socketpoll import ENDED, READ, WRITE, SocketPoll

_RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds
# A larger buffer would be slower, because it would not fit into a CPU's fast cache.
_BUFFER: Final = bytearray(1 << 17)
_VIEW: Final = memoryview(_BUFFER)
# While more bytes than this wait to be written, on all connections together, only a little is read at a time. Otherwise
# thousands of clients that do not read would need one full buffer each.
MOST_LEFT: Final = 64 << 20
_LITTLE: Final = 4096


class _Leftovers:
    """The number of bytes that were read but not written yet. count: of all connections of this process."""

    count = 0


def leftovers() -> int:
    """Return how many bytes were read but not written yet."""
    return _Leftovers.count


class JoinedSockets:
    """Two joined sockets.

    near, far: connected sockets in non-blocking mode; this object owns them.
    ended: called once, with this object, when both are closed.
    """

    __slots__ = ("_ended", "_ends", "_poll")

    def __init__(
        self, poll: SocketPoll, near: socket.socket, far: socket.socket, ended: Callable[[JoinedSockets], None]
    ) -> None:
        self._poll = poll
        self._ended = ended
        here, there = _End(self, poll, near), _End(self, poll, far)
        here.other, there.other = there, here
        self._ends: tuple[_End, ...] = (here, there)

    def start(self) -> None:
        """Begin to pass bytes on."""
        for end in self._ends:
            self._poll.add(end.number, READ, end.ready)

    def abort(self) -> None:
        """Reset both connections. Idempotent."""
        for end in self._ends:
            with contextlib.suppress(OSError):  # The peer may have reset the connection.
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close both sockets. Idempotent."""
        ends, self._ends = self._ends, ()
        for end in ends:
            self._poll.remove(end.number, end.events)
            end.closed = True
            _Leftovers.count -= len(end.left)
            end.sock.close()
            # Without this, only the garbage collector would free the ends, which refer to each other.
            del end.other
        if ends:
            self._ended(self)


class _End:
    """One of the two sockets.

    events: the events for which the poll watches this socket: READ, WRITE, both or 0.
    left: bytes that did not fit into this socket's buffer. Until they are written, the other socket is not read.
    eof: the peer has sent everything (FIN).
    """

    __slots__ = ("_join", "_poll", "closed", "eof", "events", "left", "number", "other", "sock")

    def __init__(self, join: JoinedSockets, poll: SocketPoll, sock: socket.socket) -> None:
        self._join = join
        self._poll = poll
        self.sock = sock
        self.number = sock.fileno()
        self.events = READ
        self.left = b""
        self.eof = False
        self.closed = False
        self.other: _End

    def ready(self, events: int) -> None:
        """Write the waiting bytes, and read. The poll calls this."""
        if events & WRITE and self.left:
            self._write()
        if events & READ and self.events & READ and not self.closed:
            self._read()
            if events & ENDED and self.events & READ and not self.closed:
                # The peer's FIN has arrived, too: read it now, without another iteration of the event loop.
                self._read()

    def _read(self) -> None:
        other = self.other
        try:
            count = self.sock.recv_into(_BUFFER, _LITTLE if _Leftovers.count > MOST_LEFT else 0)
        except BlockingIOError:
            return
        except OSError:
            self._join.abort()
            return
        if not count:
            self._end()
            return
        try:
            sent = other.sock.send(_VIEW[:count])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._join.abort()
            return
        if sent < count:
            other.left = bytes(_VIEW[sent:count])
            _Leftovers.count += count - sent
            other.wait_for(other.events | WRITE)
            self.wait_for(self.events & ~READ)

    def _write(self) -> None:
        try:
            sent = self.sock.send(self.left)
        except BlockingIOError:
            return
        except OSError:
            self._join.abort()
            return
        self.left = self.left[sent:]
        _Leftovers.count -= sent
        if not self.left:
            self.wait_for(self.events & ~WRITE)
            self.other.wait_for(self.other.events | READ)

    def _end(self) -> None:
        self.eof = True
        if self.other.eof:
            self._join.close()
            return
        self.wait_for(self.events & ~READ)
        try:
            self.other.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._join.abort()

    def wait_for(self, events: int) -> None:
        """Make the poll watch for these events instead of the current ones."""
        if events != self.events:
            self._poll.change(self.number, self.events, events)
            self.events = events
