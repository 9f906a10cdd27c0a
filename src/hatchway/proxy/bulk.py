"""Long bodies of known length: read into one shared buffer and written from it.

The usual way makes a `bytes` object, which is a copy, for each read.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final, cast

from hatchway.proxy.contracts import BulkConnection

# A body with fewer bytes left than this is read in the usual way: changing the protocol would cost more than it saves.
LONG: Final = 256 * 1024
_SMALLEST: Final = 64 * 1024
_LARGEST: Final = 256 * 1024  # as much as the transports read of other bodies at a time
_shared = threading.local()


class BulkReader(asyncio.BufferedProtocol):
    """The protocol of a connection's transport while a long body is read.

    All readers of a thread share one buffer. That is safe with aiofastnet's transports: `write` copies what it cannot
    send at once, so the buffer is free again when `write` returns. asyncio's own transports keep a reference.
    """

    __slots__ = ("_connection", "_over", "_size", "_view")

    def __init__(self, connection: BulkConnection) -> None:
        self._connection = connection
        self._size = _LARGEST
        self._over = False
        view: memoryview | None = getattr(_shared, "view", None)
        if view is None:
            view = _shared.view = memoryview(bytearray(_LARGEST))
        self._view = view
        connection.transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the part of the shared buffer that the rest of the body may fill, so that no later byte is read."""
        size = self._size
        return self._view[: size if self._over else min(size, self._connection.bulk_left)]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand the bytes that were read to the connection."""
        data = self._view[:nbytes]
        if self._over:
            self._connection.data_received(bytes(data))
        elif not self._connection.bulk_received(data):
            self._end()
        elif not self._connection.transport.is_reading():
            self._size = _SMALLEST  # the peer reads slowly, so each write copies what it could not send
        elif self._size < _LARGEST:
            self._size *= 2

    def data_received(self, data: bytes) -> None:
        """Take bytes that the transport had read before it was told to use a buffer."""
        self._connection.data_received(data)

    def _end(self) -> None:
        # In the next turn of the loop: a TLS transport that has filled the buffer asks this protocol for another one
        # before it notices that its protocol has changed.
        self._over = True
        asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        transport = self._connection.transport
        if not transport.is_closing() and transport.get_protocol() is self:
            transport.set_protocol(cast(asyncio.BaseProtocol, self._connection))

    def eof_received(self) -> bool | None:
        """Pass the call on to the connection."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the call on to the connection."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass the call on to the connection."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass the call on to the connection."""
        self._connection.resume_writing()
