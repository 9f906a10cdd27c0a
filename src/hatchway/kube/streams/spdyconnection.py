"""Runs a SPDY session, as client or server, on a transport: directly, or inside the messages of a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from hatchway.kube.streams.spdystream import SpdyStream
from hatchway.proxy import transports
from hatchway.wire.spdy import REFUSED_STREAM, SpdySession
from hatchway.wire.spdyevents import (
    LIMITS,
    DataReceived,
    Event,
    GoneAway,
    Headers,
    PingAnswered,
    SpdyError,
    SpdyLimits,
    StreamAccepted,
    StreamDrained,
    StreamOpened,
    StreamReset,
)
from hatchway.wire.spdyheaders import HeaderList
from hatchway.wire.websocket import GOING_AWAY, CloseReceived, Piece, WebSocket, WebSocketError

# The most unread bytes of all streams of a connection together. Beyond this, reading from the connection is paused.
KEPT: Final = 16 * 1024 * 1024
# The same limit for a connection in a `SharedRoom`, while that room is full.
LEAST_KEPT: Final = 1024 * 1024
# A stream's writer is paused while more bytes than this wait for the stream's window.
UNSENT: Final = 64 * 1024
# Bytes in the transport's write buffer: at the first number the connection counts as full. The buffer reaches the
# second number only when the peer does not read; then the connection is aborted.
_FULL: Final = 256 * 1024
_ABSURD: Final = 64 * 1024 * 1024
# Buffers of up to this many bytes together are joined, so that they need one call and one TLS record.
_JOINED: Final = 32 * 1024
# When there is room again, this many streams may write in one iteration of the event loop.
_RESUMED_AT_ONCE: Final = 16
# In seconds: the time between two checks of the connection; the time without a byte after which the connection counts
# as dead; the time after which a closed stream that the peer has not ended is reset.
_CHECK_INTERVAL: Final = 5.0
_DEAD: Final = 30.0
_LINGER: Final = 60.0


class SharedRoom:
    """A limit on received bytes that are not read yet, shared by several connections.

    Each connection may always have `LEAST_KEPT` unread bytes.

    most: the maximum number of bytes in all connections together.
    held: the present number of bytes.
    """

    __slots__ = ("held", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0


class StreamReceiver(Protocol):
    """The receiver of one stream's events."""

    def replied(self, headers: Headers) -> None:
        """Take the headers of the peer's reply, which accepts the stream. Not called for a reply without headers."""

    def receive(self, data: bytes, fin: bool) -> None:
        """Take bytes. fin: True when they are the last bytes of the stream."""

    def was_reset(self, status: int) -> None:
        """Handle a reset by the peer, which has ended both directions."""

    def connection_lost(self, error: Exception) -> None:
        """Handle the loss of the connection."""

    def drained(self) -> None:
        """Continue to write: all bytes that waited for the stream's window were sent."""


class SpdyConnection(asyncio.Protocol):
    """One end of a session; it is the asyncio protocol of the session's transport.

    server: True at the end that has accepted the connection.
    tunnel: True when the session's bytes are sent in binary messages of a WebSocket.
    on_stream: called with each stream that the peer opens, to accept or refuse it; None to refuse all.
    limits: limits on what the peer may use.
    kept: received bytes of all streams that may be unread before reading is paused.
    shared: a limit on unread bytes that several connections share; None without one.
    unsent: bytes of one stream that may wait for its window before its writer is paused.

    Attributes:
        session: the protocol's state; `session.can_open` tells whether streams can be opened.
        closed: a future that is done when the connection has ended. Its result is the error; None for an orderly end.
        is_full: True while the transport's write buffer is full.
        stalled: True while reading is paused for all streams, because too many received bytes are unread. When the
            peer respects the windows, only many slow readers together can cause this, never a single reader.
    """

    def __init__(
        self,
        *,
        server: bool,
        tunnel: bool,
        on_stream: Callable[[SpdyStream], None] | None = None,
        limits: SpdyLimits = LIMITS,
        kept: int = KEPT,
        shared: SharedRoom | None = None,
        unsent: int = UNSENT,
    ) -> None:
        self.session = SpdySession(server=server, limits=limits)
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.is_full = False
        self.most_unsent = unsent
        self.stalled = False
        self._envelope = WebSocket(client=not server, largest=None) if tunnel else None
        self._on_stream = on_stream
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, StreamReceiver] = {}
        self._waiting: dict[SpdyStream, None] = {}
        self._writers: list[SpdyStream] = []
        self._lingering: dict[int, float] = {}
        self._flush_scheduled = False
        self._unflushed = 0
        self._resuming = False
        self._receiving = False
        self._kept = 0
        self._most_kept = kept
        self._shared = shared
        self._reason: Exception | None = None
        self._heard = True
        self._heard_at = 0.0
        self._checks: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    # Streams

    def open(self, headers: HeaderList, *, fin: bool = False) -> SpdyStream:
        """Open a stream. Raises ConnectionError when no more can be opened.

        fin: True when nothing will be sent on the stream.
        """
        stream = SpdyStream(self, self.open_for(headers, fin=fin), list(headers))
        self._streams[stream.stream_id] = stream
        return stream

    def open_for(self, headers: HeaderList, *, fin: bool = False) -> int:
        """Open a stream, and return its number for `read_with`, which sets its receiver. Raises ConnectionError."""
        if self.closed.done() or not self.session.can_open:
            raise ConnectionError("the session takes no more streams")
        stream_id = self.session.open_stream(headers, fin=fin)
        self.flush_soon()
        return stream_id

    def read_with(self, stream_id: int, reader: StreamReceiver) -> None:
        """Set the receiver of a stream. Call it right after opening the stream."""
        self._streams[stream_id] = reader

    @property
    def stream_count(self) -> int:
        """Return the number of streams that are open, or closed at this end but not yet by the peer."""
        return len(self._streams)

    # Called by streams (`spdystream.StreamOwner`)

    def flush_soon(self, stream: SpdyStream | None = None, size: int = 0) -> None:
        """Send data at the end of this iteration of the event loop, with other streams' data; long data at once."""
        if stream is not None:
            self._writers.append(stream)
            self._unflushed += size
            if self._unflushed > _FULL and not self._receiving:
                self._flush()
                return
        if not (self._flush_scheduled or self._receiving):
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def wait_for_room(self, stream: SpdyStream) -> None:
        """Call the stream's `resume_writing` when the connection is no longer full."""
        self._waiting[stream] = None

    def count_unread(self, count: int) -> None:
        """Add `count` to the number of unread bytes; pause or resume reading accordingly."""
        self._kept += count
        most, shared = self._most_kept, self._shared
        if shared is not None:
            shared.held += count
            if shared.held > shared.most:
                most = min(most, LEAST_KEPT)
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self.stalled:
            if self._kept < most // 2:
                self.stalled = False
                self._heard = True
                transport.resume_reading()
        elif self._kept > most:
            self.stalled = True
            transport.pause_reading()

    def finished(self, stream_id: int) -> None:
        """Remove a stream that has ended."""
        self._streams.pop(stream_id, None)
        self._lingering.pop(stream_id, None)

    def linger(self, stream_id: int) -> None:
        """Reset a stream after some seconds, unless the peer ends it before."""
        self._lingering[stream_id] = asyncio.get_running_loop().time() + _LINGER

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return an item of the transport's extra information."""
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    # The connection

    async def check(self, patience: float) -> bool:
        """Send a ping; return True when the peer answers it within `patience` seconds.

        Otherwise abort the connection, which may have been lost while the machine slept or changed its network.
        """
        if self.closed.done():
            return False
        ping_id = self.session.ping()
        answered = self._checks[ping_id] = asyncio.get_running_loop().create_future()
        self.flush_soon()
        try:
            async with asyncio.timeout(patience):
                await answered
        except TimeoutError:
            self.abort(TimeoutError(f"no answer to a ping in {patience:g} s"))
            return False
        finally:
            self._checks.pop(ping_id, None)
        return not self.closed.done()

    def close(self) -> None:
        """End the session in order. Streams that are open end with an error."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.session.go_away()
        if self._envelope is not None:
            self._flush()
            self._envelope.close()
        self._flush()
        transport.close()
        self._end_streams(ConnectionError("the session was closed"))

    def abort(self, reason: Exception) -> None:
        """Close the connection at once. reason: the error for the streams and for `closed`."""
        transport = self._transport
        if transport is not None and not self.closed.done():
            self._reason = self._reason or reason
            transport.abort()
            self._end_streams(self._reason)

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, and send the bytes that were written before."""
        self._transport = transport = cast(asyncio.Transport, transport)  # aiofastnet's transports are no subclasses
        transport.set_write_buffer_limits(high=_FULL)
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        self._timer = loop.call_later(_CHECK_INTERVAL, self._check_streams)
        self.flush_soon()

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and pass them to the streams."""
        self._heard = True
        self._receiving = True
        try:
            if self._envelope is None:
                self._take(self.session.receive_data(data))
            else:
                self._open_envelope(self._envelope, data)
        except (SpdyError, WebSocketError) as error:
            self._receiving = False
            self._flush()
            self.abort(ConnectionError(f"the other side violated the protocol: {error}"))
        finally:
            self._receiving = False
            self._flush()

    def eof_received(self) -> bool | None:
        """Let the transport close: a session has no half-closed state."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End all streams."""
        transport = self._transport
        assert transport is not None
        transports.note_lost(transport)
        if self._timer is not None:
            self._timer.cancel()
        if self.closed.done():
            return
        reason = self._reason or exc
        self.closed.set_result(reason)
        for check in self._checks.values():
            if not check.done():
                check.set_result(None)
        self._end_streams(reason or ConnectionError("the connection was closed by the other side"))

    def pause_writing(self) -> None:
        """Record that the write buffer is full; `_flush` then pauses the streams that have just written."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Resume the streams that wait for room."""
        self.is_full = False
        if not self._resuming:
            self._resume_some()

    def _resume_some(self) -> None:
        """Resume the streams that have waited longest. If all wrote at once, the buffer would grow far too large."""
        self._resuming = False
        waiting = self._waiting
        for _ in range(min(_RESUMED_AT_ONCE, len(waiting))):
            if self.is_full:
                return
            stream = next(iter(waiting))
            del waiting[stream]
            stream.resume_writing()
        if waiting:
            self._resuming = True
            asyncio.get_running_loop().call_soon(self._resume_some)

    def _open_envelope(self, envelope: WebSocket, data: bytes) -> None:
        for event in envelope.receive_data(data):
            if type(event) is Piece:
                self._take(self.session.receive_data(event.data))
            elif type(event) is CloseReceived:
                self._receiving = False
                self._flush()
                if self._transport is not None:
                    self._transport.close()
                if event.code > GOING_AWAY and event.reason:
                    self._reason = ConnectionError(f"the other side closed the connection: {event.reason}")

    def _take(self, events: list[Event]) -> None:
        streams = self._streams
        for event in events:
            if type(event) is DataReceived:
                reader = streams.get(event.stream_id)
                if reader is not None:
                    reader.receive(event.data, event.fin)
            elif type(event) is StreamAccepted:
                reader = streams.get(event.stream_id)
                if reader is not None:
                    if event.headers:
                        reader.replied(event.headers)
                    if event.fin:
                        reader.receive(b"", True)
            elif type(event) is StreamOpened:
                self._opened(event.stream_id, event.headers, event.fin)
            elif type(event) is StreamReset:
                reader = streams.pop(event.stream_id, None)
                if reader is not None:
                    reader.was_reset(event.status)
            elif type(event) is StreamDrained:
                reader = streams.get(event.stream_id)
                if reader is not None:
                    reader.drained()
            elif type(event) is PingAnswered:
                check = self._checks.get(event.ping_id)
                if check is not None and not check.done():
                    check.set_result(None)
            elif type(event) is GoneAway and not streams:
                self.close()
                return

    def _opened(self, stream_id: int, headers: Headers, fin: bool) -> None:
        if self._on_stream is None:
            self.session.reset(stream_id, REFUSED_STREAM)
            return
        stream = self._streams[stream_id] = SpdyStream(self, stream_id, headers)
        if fin:
            stream.receive(b"", True)
        self._on_stream(stream)

    def _flush(self) -> None:
        self._flush_scheduled = False
        self._unflushed = 0
        out = self.session.data_to_send()
        envelope = self._envelope
        if envelope is not None:
            if out:
                envelope.send_binary(*out)
            out = envelope.data_to_send()
        writers = self._writers
        transport = self._transport
        if out and transport is not None and not self.closed.done():
            if len(out) == 1:
                transport.write(out[0])
            elif sum(map(len, out)) <= _JOINED:
                transport.write(b"".join(out))
            else:
                transport.writelines(out)
            if self.is_full:
                for stream in writers:
                    stream.pause_writing()
                if transport.get_write_buffer_size() > _ABSURD:
                    self.abort(ConnectionError("the other side does not read"))
        writers.clear()

    def _end_streams(self, reason: Exception) -> None:
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.connection_lost(reason)

    def _check_streams(self) -> None:
        """Abort a silent connection, send a ping, and reset closed streams that the peer has not ended in time."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._heard or self.stalled:
            self._heard = False
            self._heard_at = now
        elif now - self._heard_at >= _DEAD:
            self.abort(TimeoutError(f"the other side has sent nothing for {_DEAD:g} s"))
            return
        if self.stalled:
            self.count_unread(0)  # other connections may have freed shared room
        if not self._checks:
            self.session.ping()
        for stream_id in [found for found, deadline in self._lingering.items() if deadline <= now]:
            reader = self._streams.get(stream_id)
            self.finished(stream_id)
            self.session.reset(stream_id)
            if reader is not None:
                reader.connection_lost(TimeoutError("the other side did not end the stream"))
        self._timer = loop.call_later(_CHECK_INTERVAL, self._check_streams)
        self.flush_soon()
