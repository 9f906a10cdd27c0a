"""Joins two transports: bytes from each are written to the other. Each direction may end (FIN) separately."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import cast


class JoinEnd(asyncio.Protocol):
    """The protocol of one of two joined transports: writes the received bytes to the other transport.

    Backpressure: while one transport's write buffer is full, reading from the other transport is paused.

    received: the number of bytes that this transport has received.
    """

    __slots__ = ("_ended", "_eof", "_lost", "_other", "_transport", "received")

    def __init__(self, transport: asyncio.Transport, ended: Callable[[Exception | None], None]) -> None:
        """Make one end; `join` makes both. ended: called with the error, or None, when both transports are closed."""
        self._transport = transport
        self._ended = ended
        self._other: JoinEnd = self
        self._eof = False
        self._lost = False
        self.received = 0

    def data_received(self, data: bytes) -> None:
        """Write the bytes to the other transport."""
        self.received += len(data)
        self._other._transport.write(data)

    def eof_received(self) -> bool:
        """End this direction on the other transport. The other direction continues."""
        self._eof = True
        other = self._other
        if other._eof or not other._transport.can_write_eof():
            self._transport.close()
            other._transport.close()
        elif not other._lost and not other._transport.is_closing():
            other._transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Pause reading from the other transport: this transport's write buffer is full."""
        if not self._other._lost and not self._other._transport.is_closing():
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the other transport."""
        if not self._other._lost and not self._other._transport.is_closing():
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other transport: after an error at once, otherwise once its write buffer was sent."""
        self._lost = True
        other = self._other
        if other._lost:
            ended = self._ended
            ended(exc)
            # Without this, only the garbage collector would free the ends, which refer to each other.
            del self._other, other._other, self._ended, other._ended
        elif exc is not None:
            other._failed(exc)
        else:
            other._transport.close()

    def _failed(self, error: Exception) -> None:
        before = self._ended
        self._ended = lambda later: before(error)
        reset(self._transport)


class EarlyReceiver(asyncio.Protocol):
    """The protocol of a transport before `join`: stores the bytes that arrive until then.

    Reading is paused, but uvloop reads once even after `connection_made` has paused reading.

    early: the bytes that have arrived.
    eof: True when the peer has shut its sending side.
    lost: True when the connection has ended.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.early = b""
        self.eof = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, and pause reading."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Store the first bytes."""
        self.early += data
        self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Record the end of the peer's bytes."""
        self.eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end of the connection."""
        self.lost = True


def join(
    near: EarlyReceiver, far: EarlyReceiver | asyncio.Transport, ended: Callable[[Exception | None], None]
) -> tuple[JoinEnd, JoinEnd]:
    """Join two transports: write the bytes that have arrived already, and read both.

    If one of the transports is closed already, the other transport is reset.

    Args:
        near: the protocol of one transport.
        far: the protocol of the other transport, or the other transport itself. Such a transport must not have begun
            to read. If it has already ended, it must still call `connection_lost` of the protocol that `join` sets.
        ended: called once both are closed, with the error of the transport that failed, or None.

    Returns:
        The ends of `near` and `far`.
    """
    other = far if isinstance(far, EarlyReceiver) else _unread(far)
    here, there = JoinEnd(near.transport, ended), JoinEnd(other.transport, ended)
    here._other, there._other = there, here
    here._lost, there._lost = near.lost, other.lost
    if near.lost and other.lost:
        asyncio.get_running_loop().call_soon(ended, None)
        return here, there
    for end, found in ((here, near), (there, other)):
        if not found.lost:
            found.transport.set_protocol(end)
    if other.transport.is_closing():
        reset(near.transport)
    elif near.transport.is_closing():
        reset(other.transport)
    else:
        for end, found in ((here, near), (there, other)):
            if found.early:
                end.data_received(found.early)
            if found.eof:
                end.eof_received()
        other.transport.resume_reading()
        near.transport.resume_reading()
    return here, there


def _unread(transport: asyncio.Transport) -> EarlyReceiver:
    found = EarlyReceiver()
    found.transport = transport
    return found


def reset(transport: asyncio.Transport) -> None:
    """Close a transport at once. A TCP peer gets a reset (RST), so that it knows that bytes are missing."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # it may be closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
