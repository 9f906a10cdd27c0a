"""Long bodies of known length: read into one buffer and written from it, without an object and a copy for each read."""

from __future__ import annotations

import asyncio
import threading
from typing import Final, Protocol, cast

# How much of a body has to be left for a change of protocols to be worth it.
LONG: Final = 256 * 1024
_SMALLEST: Final = 64 * 1024
_LARGEST: Final = 256 * 1024  # as much as the transports read of other bodies at a time
_shared = threading.local()


class Connection(Protocol):
    """A protocol that lets a `BulkReader` read a body for it.

    bulk_left: how much of the body is still to come, at least 1.
    """

    transport: asyncio.Transport

    @property
    def bulk_left(self) -> int: ...

    def bulk_received(self, data: memoryview) -> bool:
        """A piece has come, with nothing behind the body's end; to be used before it returns. False: that was the last."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class BulkReader(asyncio.BufferedProtocol):
    """Stands in for a connection as its transport's protocol until the body is complete.

    All of a thread share one buffer: a transport copies what it cannot send at once (aiofastnet's do, asyncio's own
    do not), so a view of it is done with when the call that hands it over returns.
    """

    __slots__ = ("_connection", "_over", "_size", "_view")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._size = _LARGEST
        self._over = False
        view: memoryview | None = getattr(_shared, "view", None)
        if view is None:
            view = _shared.view = memoryview(bytearray(_LARGEST))
        self._view = view
        connection.transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Never beyond the body's end: what follows it belongs to the connection.
        size = self._size
        return self._view[: size if self._over else min(size, self._connection.bulk_left)]

    def buffer_updated(self, nbytes: int) -> None:
        data = self._view[:nbytes]
        if self._over:
            self._connection.data_received(bytes(data))
        elif not self._connection.bulk_received(data):
            self._end()
        elif not self._connection.transport.is_reading():
            self._size = _SMALLEST  # the reader at the other end is slow, and what it has not taken was copied
        elif self._size < _LARGEST:
            self._size *= 2

    def data_received(self, data: bytes) -> None:
        """What the transport had already read when it was told to use a buffer."""
        self._connection.data_received(data)

    def _end(self) -> None:
        # Not now: a TLS transport that has filled the buffer asks for the next one before it looks whom to ask.
        self._over = True
        asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        transport = self._connection.transport
        if not transport.is_closing() and transport.get_protocol() is self:
            transport.set_protocol(cast(asyncio.BaseProtocol, self._connection))

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
