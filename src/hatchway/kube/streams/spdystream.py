"""One stream of a SPDY session as an asyncio transport, so that protocols can use it like a socket's transport."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar, cast

from hatchway.wire.spdy import SpdySession
from hatchway.wire.spdyevents import Headers
from hatchway.wire.spdyheaders import HeaderList

logger = logging.getLogger(__name__)

_R = TypeVar("_R")

# An empty queue that all streams without received bytes share, so that an idle stream needs little memory.
_NOTHING: Final[deque[bytes]] = deque(maxlen=0)


class StreamOwner(Protocol):
    """The part of a connection (`spdyconnection.py`) that its streams use.

    session: the session to which the stream belongs.
    is_full: True while the connection's write buffer is full.
    most_unsent: bytes of one stream that may wait for its window before `pause_writing` is called.
    """

    session: SpdySession
    is_full: bool
    most_unsent: int

    def flush_soon(self, stream: SpdyStream | None = None, size: int = 0) -> None:
        """Send the session's bytes, together with bytes that other streams write in this iteration of the event loop.

        stream: the stream that has written `size` bytes; its protocol is paused if the connection is full then.
        """

    def wait_for_room(self, stream: SpdyStream) -> None:
        """Call `stream.resume_writing` once the connection is no longer full."""

    def count_unread(self, count: int) -> None:
        """Add `count` to the received bytes that wait for a reader; `count` may be negative."""

    def finished(self, stream_id: int) -> None:
        """Remove a stream that has ended in both directions."""

    def linger(self, stream_id: int) -> None:
        """Reset a closed stream after some seconds, unless the peer ends it before."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return an item of extra information of the connection's transport."""


class SpdyStream(asyncio.Transport):
    """A stream of a session.

    It reads only after a protocol was set and `resume_reading` was called; `start` does both. A write never blocks:
    when the peer's window or the connection has no room, the bytes are queued and the protocol's `pause_writing` is
    called.

    stream_id: the stream's number.
    headers: the headers with which the stream was opened.
    """

    __slots__ = (
        "_closing",
        "_drain_scheduled",
        "_ended",
        "_eof_reported",
        "_error",
        "_failed",
        "_full",
        "_kept",
        "_kept_size",
        "_lost",
        "_owner",
        "_paused",
        "_peer_ended",
        "_protocol",
        "_session",
        "headers",
        "stream_id",
    )

    def __init__(self, owner: StreamOwner, stream_id: int, headers: Headers) -> None:
        super().__init__()
        self.stream_id = stream_id
        self.headers = headers
        self._owner = owner
        self._session = owner.session
        self._protocol: asyncio.Protocol | None = None
        self._paused = True
        self._drain_scheduled = False
        self._kept = _NOTHING
        self._kept_size = 0
        self._peer_ended = False
        self._eof_reported = False
        self._ended = False
        self._closing = False
        self._lost = False
        self._full = False
        # `_error` is reported after the bytes that arrived before the error were read. `_failed`: True when the error
        # is reported in place of the peer's FIN.
        self._error: Exception | None = None
        self._failed = False

    def start(self, protocol: asyncio.Protocol) -> None:
        """Set the stream's protocol, and start to read."""
        self._protocol = protocol
        protocol.connection_made(self)
        self.resume_reading()

    def accept(self, headers: HeaderList = (), *, silent: bool = False) -> None:
        """Accept a stream that the peer has opened. Call it before writing.

        silent: as for `SpdySession.accept`; allowed only without headers.
        """
        self._session.accept(self.stream_id, headers, silent=silent)
        if not silent:
            self._owner.flush_soon()

    def refuse(self, headers: HeaderList) -> None:
        """Refuse a stream that the peer has opened, before anything was sent. headers: the reason, for the peer."""
        self._session.refuse(self.stream_id, headers)
        self._owner.flush_soon()
        self._lose(None)

    # The methods of asyncio's transports

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set another protocol, which must not be a BufferedProtocol."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return an item of extra information of the connection's transport; not the socket, which is shared."""
        return default if name == "socket" else self._owner.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return True after `close` or `abort`, or when the stream has ended."""
        return self._closing

    def is_reading(self) -> bool:
        """Return True unless reading is paused."""
        return not (self._paused or self._closing)

    def pause_reading(self) -> None:
        """Pass no more bytes to the protocol; queue the bytes that arrive."""
        self._paused = True

    def resume_reading(self) -> None:
        """Pass queued and later bytes to the protocol."""
        if not self._paused:
            return
        self._paused = False
        if (self._kept or self._peer_ended or self._error) and not self._drain_scheduled:
            self._drain_scheduled = True
            asyncio.get_running_loop().call_soon(self._drain)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes. Mutable buffers are copied, so the caller may reuse them."""
        if self._closing or not data:
            return
        if self._ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        self._session.send_data(self.stream_id, data if type(data) is bytes else bytes(data))
        self._owner.flush_soon(self, len(data))
        if not self._full and (self._owner.is_full or self._session.unsent(self.stream_id) > self._owner.most_unsent):
            self.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several buffers."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True: a stream can be ended in one direction."""
        return True

    def write_eof(self) -> None:
        """Send FIN after the bytes that were written."""
        if self._ended or self._closing:
            return
        self._end()
        self._end_if_over()

    def close(self) -> None:
        """Send the bytes that were written, then close. When more bytes arrive, the stream is reset."""
        if self._closing:
            return
        self._closing = True
        self._drop_kept()
        if not self._ended:
            self._end()
        if not self._peer_ended:
            self._owner.linger(self.stream_id)
        if not self._session.unsent(self.stream_id):
            self._lose(None)

    def abort(self) -> None:
        """End the stream at once, and reset it at the peer."""
        self._session.reset(self.stream_id)
        self._owner.flush_soon()
        self._lose(None)

    def hold(self, count: int) -> None:
        """Count `count` bytes, which the protocol has received and buffers, as unread; subtract a negative `count`."""
        self._owner.count_unread(count)

    def may_write(self) -> bool:
        """Return False for a stream on which only the peer may send."""
        return self._session.may_send(self.stream_id)

    def room(self, most: int) -> int:
        """Return how many bytes the stream's window allows now, at most `most`."""
        return self._session.room(self.stream_id, most)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes of this stream wait for its window."""
        return self._session.unsent(self.stream_id)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        return 0, self._owner.most_unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the connection's buffer is shared, and has limits of its own."""

    # Called by the connection (`spdyconnection.StreamReceiver`)

    def replied(self, headers: Headers) -> None:
        """Do nothing: a stream uses no information from a reply's headers."""

    def receive(self, data: bytes, fin: bool) -> None:
        """Take bytes from the peer."""
        if self._closing:
            if fin:
                self._peer_ended = True
                if not self._session.is_open(self.stream_id):
                    self._owner.finished(self.stream_id)
            elif self._session.unsent(self.stream_id):
                self._session.consumed(self.stream_id, len(data))  # a reset would discard unsent bytes
            elif data:
                # The stream was closed at this end: answer bytes with a reset, as a closed socket does.
                self._session.reset(self.stream_id)
                self._owner.finished(self.stream_id)
            return
        if data:
            if self._paused or self._kept:
                if self._kept is _NOTHING:
                    self._kept = deque()
                self._kept.append(data)
                self._kept_size += len(data)
                self._owner.count_unread(len(data))
            else:
                self._hand_over(data)
                self._session.consumed(self.stream_id, len(data), at_once=not self._paused)
        if fin:
            self._peer_ended = True
            if not (self._paused or self._kept):
                self._report_eof()

    def was_reset(self, status: int) -> None:
        """End the stream, because the peer has reset it."""
        self._owner.finished(self.stream_id)
        self._lose(ConnectionResetError("the stream was reset by the other side"))

    def connection_lost(self, error: Exception) -> None:
        """End the stream, because the connection is lost. After a FIN of the peer, buffered bytes can still be read."""
        if self._peer_ended and self._kept:
            self._error = error
        else:
            self._lose(error)

    def drained(self) -> None:
        """Let the protocol write again: all bytes that waited for the window were sent."""
        if not self._session.is_open(self.stream_id):
            self._owner.finished(self.stream_id)
        if self._closing:
            self._lose(None)
        else:
            self._end_if_over()
            if not self._owner.is_full:
                self.resume_writing()
            elif self._full and not self._lost:
                self._owner.wait_for_room(self)

    def pause_if_full(self) -> bool:
        """Pause the protocol's writing if the connection is full. Return True while it is paused."""
        if not self._full and self._owner.is_full:
            self.pause_writing()
        return self._full

    def pause_writing(self) -> None:
        """Call the protocol's `pause_writing`, unless it was called already."""
        if self._full or self._lost or self._protocol is None:
            return
        self._full = True
        self._owner.wait_for_room(self)
        self._guard(self._protocol.pause_writing)

    def resume_writing(self) -> None:
        """Call the protocol's `resume_writing` if the stream's window allows it."""
        if self._full and not self._lost and self._session.unsent(self.stream_id) <= self._owner.most_unsent:
            self._full = False
            assert self._protocol is not None
            self._guard(self._protocol.resume_writing)

    def fail(self, error: Exception) -> None:
        """End the stream with an error, after the bytes that arrived before the error were read."""
        if self._kept:
            self._error = error
            self._failed = True
        else:
            self._session.reset(self.stream_id)
            self._owner.flush_soon()
            self._lose(error)

    def _hand_over(self, data: bytes) -> None:
        assert self._protocol is not None
        self._guard(self._protocol.data_received, data)

    def _guard(self, call: Callable[..., _R], *arguments: object) -> _R | None:
        """Call a method of the protocol. An exception ends this stream, but not the connection."""
        try:
            return call(*arguments)
        except Exception:
            logger.exception("a protocol of a stream failed")
            self.abort()
            return None

    def _drain(self) -> None:
        self._drain_scheduled = False
        while self._kept and not self._paused and not self._closing:
            data = self._kept.popleft()
            self._kept_size -= len(data)
            self._owner.count_unread(-len(data))
            self._hand_over(data)
            # When the reader is as fast as the peer, the window may grow.
            caught_up = not (self._kept or self._paused)
            self._session.consumed(self.stream_id, len(data), at_once=caught_up)
        self._owner.flush_soon()
        if self._kept or self._paused or self._closing:
            return
        if self._peer_ended and not self._failed:
            self._report_eof()
        if self._error is not None:
            self.fail(self._error)

    def _report_eof(self) -> None:
        if self._eof_reported or self._closing:
            return
        self._eof_reported = True
        assert self._protocol is not None
        if not self._guard(self._protocol.eof_received):
            self.close()
        else:
            self._end_if_over()

    def _end_if_over(self) -> None:
        """End the stream if both directions have ended and everything was sent."""
        if self._ended and self._eof_reported and not self._session.unsent(self.stream_id):
            self._lose(None)

    def _end(self) -> None:
        self._ended = True
        self._session.send_data(self.stream_id, b"", fin=True)
        self._owner.flush_soon()

    def _drop_kept(self) -> None:
        if self._kept_size:
            self._owner.count_unread(-self._kept_size)
            self._kept_size = 0
            self._kept = _NOTHING

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._drop_kept()
        if not self._session.is_open(self.stream_id):
            self._owner.finished(self.stream_id)
        asyncio.get_running_loop().call_soon(self._report_loss, error)

    def _report_loss(self, error: Exception | None) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(error)
