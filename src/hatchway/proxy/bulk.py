"""Relays long bodies of known length through one shared buffer.

Other bodies are read as `bytes` objects, which costs a copy for each read.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final, cast

from hatchway.proxy.contracts import BulkConnection

# A body with fewer remaining bytes than this is not read in bulk: changing the protocol would cost more than it saves.
LONG: Final = 256 * 1024
_SMALLEST: Final = 64 * 1024
_LARGEST: Final = 256 * 1024  # the same as the transports' read size for other bodies
_shared = threading.local()


class BulkReader(asyncio.BufferedProtocol):
    """The protocol of a connection's transport while a long body is read.

    All readers of a thread share one buffer. This is safe with aiofastnet's transports only: their `write` copies the
    bytes that it cannot send at once, so the buffer is free when `write` returns. asyncio's transports keep a
    reference to the buffer instead.
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
        """Return a part of the shared buffer, at most as long as the rest of the body, so that no more is read."""
        size = self._size
        return self._view[: size if self._over else min(size, self._connection.bulk_left)]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass the bytes that were read to the connection."""
        data = self._view[:nbytes]
        if self._over:
            self._connection.data_received(bytes(data))
        elif not self._connection.bulk_received(data):
            self._end()
        elif not self._connection.transport.is_reading():
            self._size = _SMALLEST  # the receiver is slow, and each `write` copies the bytes that it cannot send
        elif self._size < _LARGEST:
            self._size *= 2

    def data_received(self, data: bytes) -> None:
        """Take bytes that the transport had read before this protocol was set."""
        self._connection.data_received(data)

    def _end(self) -> None:
        # Change the protocol in the next iteration of the loop: a TLS transport that has filled the buffer calls
        # `get_buffer` once more before it notices that its protocol has changed.
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
