"""Long bodies of known length: read into one buffer and written from it, without an object and a copy for each read."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, Protocol

# How much of a body has to be left for a change of protocols to be worth it.
LONG: Final = 256 * 1024
_SMALLEST: Final = 64 * 1024
_LARGEST: Final = 256 * 1024  # as much as uvloop's TLS reads at a time


class Connection(Protocol):
    """A protocol that lets a `BulkReader` read a body for it.

    bulk_left: how much of the body is still to come, at least 1.
    """

    @property
    def bulk_left(self) -> int: ...

    def bulk_received(self, data: memoryview) -> None:
        """A piece has come, with nothing behind the body's end. To end this, set the transport's protocol."""

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class BulkReader(asyncio.BufferedProtocol):
    """Stands in for a connection as its transport's protocol until the body is complete.

    What it hands over are views of its buffer, whose holder may keep them (a transport that cannot send at once does).
    A buffer that somebody has kept is theirs: the next read takes another one, a small one, since it seems that the
    reader at the other end is slow.
    """

    __slots__ = ("_buffer", "_connection", "_size")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._size = _LARGEST
        self._buffer = bytearray(self._size)

    def get_buffer(self, sizehint: int) -> memoryview:
        if sys.getrefcount(self._buffer) > 2:  # ours and the call's: a view that is left counts as well
            self._size = _SMALLEST
            self._buffer = bytearray(self._size)
        elif self._size < _LARGEST:
            self._size *= 2
            self._buffer = bytearray(self._size)
        left = self._connection.bulk_left
        # Never beyond the body's end: what follows it belongs to the connection. And always a view, since asyncio's own
        # TLS reads into slices of what it gets: those of a bytearray would be copies.
        view = memoryview(self._buffer)
        return view if left >= self._size else view[:left]

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.bulk_received(memoryview(self._buffer)[:nbytes])

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
