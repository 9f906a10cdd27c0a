"""SPDY/3.1 as Kubernetes uses it: a session of many streams over one ordered byte stream.

Sources: SPDY protocol draft 3.1; moby/spdystream (`connection.go`, `spdy/read.go`), which kubectl, kubelets and
container runtimes use. That library has no flow control: it sends neither SETTINGS nor WINDOW_UPDATE, and ignores
both. So a session announces its windows by SETTINGS, but it respects the peer's windows only when the peer has
announced them, too. No window covers the whole session: the code that reads from the connection must pause reading when
too many received bytes of all streams are unread.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hatchway.wire import spdyframes
from hatchway.wire.spdyevents import (
    LIMITS,
    DataReceived,
    Event,
    GoneAway,
    HeadersReceived,
    PingAnswered,
    SpdyError,
    SpdyLimits,
    StreamAccepted,
    StreamDrained,
    StreamOpened,
    StreamReset,
)
from hatchway.wire.spdyheaders import HeaderError, HeaderList, HeaderReader, HeaderWriter
from hatchway.wire.spdystate import StreamState

# Status codes of RST_STREAM (draft 3.1, section 2.6.3).
PROTOCOL_ERROR: Final = 1
INVALID_STREAM: Final = 2
REFUSED_STREAM: Final = 3
CANCEL: Final = 5
INTERNAL_ERROR: Final = 6

# Status codes of GOAWAY (section 2.6.6).
GOAWAY_OK: Final = 0
GOAWAY_PROTOCOL_ERROR: Final = 1

_LARGEST_ID: Final = 0x7FFFFFFF
_LARGEST_WINDOW: Final = 0x7FFFFFFF
# The maximum number of bytes in a DATA frame. A longer frame would delay the other streams.
_FRAME: Final = 256 * 1024
# The maximum number of frames of the peer, between two calls of `data_to_send`, that must be answered.
_ANSWERS: Final = 1000


class SpdySession:
    """One end of a session.

    Pass received bytes to `receive_data`. After each call of any method, send the bytes that `data_to_send` returns.
    Received data counts as unread until `consumed` is called for it.

    server: True at the end that has accepted the connection.
    limits: limits on what the peer may use.
    """

    def __init__(self, *, server: bool, limits: SpdyLimits = LIMITS) -> None:
        self._server = server
        self._limits = limits
        self._streams: dict[int, StreamState] = {}
        self._peer_streams = 0
        self._next_id = 2 if server else 1
        self._next_ping = self._next_id
        self._last_peer_id = 0
        self._sent_goaway = False
        self._peer_gone = False
        self._broken = False
        self._answers = 0
        self._peer_window: int | None = None
        self._reader = HeaderReader(limits.header_block, limits.headers)
        self._writer = HeaderWriter()
        self._frames = spdyframes.FrameReader(limits.control)
        self._events: list[Event] = []
        self._out: list[bytes | memoryview] = [spdyframes.initial_window(limits.window)]

    @property
    def has_windows(self) -> bool:
        """Return True when the peer has sent SETTINGS or WINDOW_UPDATE, so that its windows are respected."""
        return self._peer_window is not None

    @property
    def stream_count(self) -> int:
        """Return the number of open streams."""
        return len(self._streams)

    @property
    def can_open(self) -> bool:
        """Return False when no stream can be opened any more, after a GOAWAY or when all stream numbers are used."""
        return not (self._sent_goaway or self._peer_gone or self._broken or self._next_id > _LARGEST_ID)

    def is_open(self, stream_id: int) -> bool:
        """Return True until both directions of a stream have ended."""
        return stream_id in self._streams

    def unsent(self, stream_id: int) -> int:
        """Return how many bytes to be sent on a stream wait for its window."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.unsent_size

    def may_send(self, stream_id: int) -> bool:
        """Return True while bytes can be sent on a stream; for a unidirectional stream of the peer always False."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.sends

    def room(self, stream_id: int, most: int) -> int:
        """Return how many bytes a stream's window allows now: 0 to `most`; without windows always `most`."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.unsent is not None:
            return 0
        if self._peer_window is None:
            return most
        return max(0, min(most, self._peer_window - stream.outstanding))

    def data_to_send(self) -> list[bytes | memoryview]:
        """Remove and return the bytes that must be sent."""
        out, self._out = self._out, []
        self._answers = 0
        return out

    def open_stream(self, headers: HeaderList, *, fin: bool = False) -> int:
        """Open a stream; data may be sent on it at once. Raises SpdyError when `can_open` is False.

        fin: True when nothing will be sent on the stream.
        """
        if not self.can_open:
            raise SpdyError("the session takes no more streams")
        stream_id = self._next_id
        self._next_id += 2
        self._streams[stream_id] = StreamState(True, not fin, True, self._limits.window)
        self._out.append(spdyframes.syn_stream(stream_id, self._writer.write(headers), fin))
        return stream_id

    def accept(self, stream_id: int, headers: HeaderList = (), *, fin: bool = False, silent: bool = False) -> None:
        """Accept a stream that the peer has opened, before anything is sent on it.

        Does nothing when the stream is no longer open.

        fin: True when nothing will be sent on the stream.
        silent: True to send no SYN_REPLY; the first data then shows the peer that the stream is accepted. Allowed only
            without headers and fin.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.ours or stream.replied:
            raise SpdyError(f"stream {stream_id} needs no reply")
        stream.replied = True
        if silent:
            return
        self._out.append(spdyframes.syn_reply(stream_id, self._writer.write(headers), fin))
        if fin:
            self._end_sending(stream_id, stream)

    def refuse(self, stream_id: int, headers: HeaderList) -> None:
        """Refuse a stream that the peer has opened, and end both directions of it.

        Does nothing when the stream is no longer open.

        headers: the headers of the SYN_REPLY, with the reason. No SYN_REPLY may have been sent before.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.ours:
            raise SpdyError(f"stream {stream_id} was opened by this end")
        self._out.append(spdyframes.syn_reply(stream_id, self._writer.write(headers), True))
        self.reset(stream_id)

    def send_data(self, stream_id: int, data: bytes | memoryview, *, fin: bool = False) -> None:
        """Send bytes on a stream. Bytes that its window does not allow yet are queued (`unsent`, `StreamDrained`).

        Does nothing when the stream is no longer open. Raises SpdyError after FIN, and before `accept`.

        data: the bytes; the buffer must not change until the bytes were sent.
        fin: True when these are the last bytes.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.sends or stream.fin:
            raise SpdyError(f"stream {stream_id} has ended in this direction")
        if not stream.ours and not stream.replied:
            raise SpdyError(f"stream {stream_id} has not been accepted")
        size = len(data)
        room = size
        if stream.unsent is not None:
            room = 0
        elif self._peer_window is not None:
            room = max(0, min(size, self._peer_window - stream.outstanding))
        if room == size and stream.unsent is None:
            self._send(stream_id, stream, data, fin)
            return
        if room:
            view = memoryview(data)
            self._send(stream_id, stream, view[:room], False)
            data = view[room:]
        if stream.unsent is None:
            stream.unsent = deque()
        if len(data):
            stream.unsent.append(data)
            stream.unsent_size += len(data)
        stream.fin = fin

    def consumed(self, stream_id: int, count: int, *, at_once: bool = False) -> None:
        """Report that the reader has taken `count` received bytes of a stream, so that the peer may send as many more.

        WINDOW_UPDATE is sent even to a peer that has announced no windows, because it may respect this end's windows.

        at_once: True when the reader is as fast as the peer. The window then grows, at most to `largest_window`.
            A small window limits the speed on connections with a long round-trip time.
        """
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receives:
            return
        stream.owed += count
        if 2 * stream.owed < stream.window:
            return
        delta = stream.owed
        if at_once:
            more = min(stream.window, max(0, self._limits.largest_window - stream.window))
            stream.window += more
            delta += more
        stream.owed = 0
        self._out.append(spdyframes.window_update(stream_id, delta))

    def reset(self, stream_id: int, status: int = CANCEL) -> None:
        """End both directions of a stream at once. Does nothing when it is no longer open."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._forget(stream_id, stream)
            self._send_reset(stream_id, status)

    def ping(self) -> int:
        """Send a ping, and return its number, which the event `PingAnswered` will have."""
        ping_id = self._next_ping
        self._next_ping = ping_id + 2 if ping_id + 2 <= _LARGEST_ID else 2 - (ping_id & 1)
        self._out.append(spdyframes.ping(ping_id))
        return ping_id

    def go_away(self, status: int = GOAWAY_OK) -> None:
        """Send GOAWAY: no more streams are opened or accepted. Open streams continue."""
        if not self._sent_goaway:
            self._sent_goaway = True
            self._out.append(spdyframes.goaway(self._last_peer_id, status))

    def receive_data(self, data: bytes | memoryview) -> list[Event]:
        """Parse received bytes, and return the resulting events.

        Raises SpdyError when the peer has violated the protocol or a limit. Then send `data_to_send()`, which contains
        a GOAWAY, and close the connection.
        """
        if self._broken:
            raise SpdyError("the session has already failed")
        events = self._events = []
        try:
            self._frames.feed(data, self)
        except (SpdyError, HeaderError) as error:
            self._broken = True
            self.go_away(GOAWAY_PROTOCOL_ERROR)
            raise SpdyError(str(error)) from None
        return events

    # Called by the frame reader (`spdyframes.FrameSink`)

    def take_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Take a piece of a DATA frame."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receives:
            # Ignore data of a stream that has ended: the peer may have sent it before it learned of the end.
            if stream is None and not self._was_opened(stream_id):
                self._count_answer()
                self._send_reset(stream_id, INVALID_STREAM)
            return
        if fin:
            self._end_receiving(stream_id, stream)
        if data or fin:
            self._events.append(DataReceived(stream_id, data, fin))

    def _was_opened(self, stream_id: int) -> bool:
        if stream_id & 1 == self._next_id & 1:
            return 0 < stream_id < self._next_id
        return 0 < stream_id <= self._last_peer_id

    def _count_answer(self) -> None:
        self._answers += 1
        if self._answers > _ANSWERS:
            raise SpdyError("the peer sends too many frames that must be answered")

    def take_control(self, kind: int, flags: int, body: bytes) -> None:
        """Handle a control frame. Frames of unknown types are ignored (section 2.2.1)."""
        if kind == spdyframes.SYN_STREAM:
            self._syn_stream(flags, body)
        elif kind == spdyframes.SYN_REPLY:
            self._syn_reply(flags, body)
        elif kind == spdyframes.RST_STREAM:
            stream_id, status = spdyframes.words(body, 2)
            stream = self._streams.get(stream_id)
            if stream is not None:
                self._forget(stream_id, stream)
                self._events.append(StreamReset(stream_id, status))
        elif kind == spdyframes.SETTINGS:
            self._settings(body)
        elif kind == spdyframes.PING:
            (ping_id,) = spdyframes.words(body, 1)
            if ping_id & 1 == self._next_ping & 1:
                self._events.append(PingAnswered(ping_id))
            else:
                self._count_answer()
                self._out.append(spdyframes.ping(ping_id))
        elif kind == spdyframes.GOAWAY:
            last, status = spdyframes.words(body, 2)
            self._peer_gone = True
            self._events.append(GoneAway(last, status))
        elif kind == spdyframes.HEADERS:
            self._headers(flags, body)
        elif kind == spdyframes.WINDOW_UPDATE:
            stream_id, delta = spdyframes.words(body, 2)
            self._window_update(stream_id & _LARGEST_ID, delta & _LARGEST_WINDOW)

    def _syn_stream(self, flags: int, body: bytes) -> None:
        if len(body) < 10:
            raise SpdyError("SYN_STREAM is cut off")
        stream_id = int.from_bytes(body[:4], "big") & _LARGEST_ID
        headers = self._reader.read(body[10:])
        if stream_id & 1 == self._next_id & 1 or stream_id <= self._last_peer_id:
            raise SpdyError(f"stream number {stream_id} is not allowed")
        self._last_peer_id = stream_id
        if self._sent_goaway:
            return
        if self._peer_streams >= self._limits.streams:
            self._count_answer()
            self._send_reset(stream_id, REFUSED_STREAM)
            return
        fin = bool(flags & spdyframes.FIN)
        stream = StreamState(False, not flags & spdyframes.UNIDIRECTIONAL, not fin, self._limits.window)
        if not stream.sends and fin:
            return
        self._streams[stream_id] = stream
        self._peer_streams += 1
        self._events.append(StreamOpened(stream_id, headers, fin))

    def _syn_reply(self, flags: int, body: bytes) -> None:
        if len(body) < 4:
            raise SpdyError("SYN_REPLY is cut off")
        stream_id = int.from_bytes(body[:4], "big") & _LARGEST_ID
        headers = self._reader.read(body[4:])
        stream = self._streams.get(stream_id)
        if stream is None or not stream.ours or stream.replied:
            return
        stream.replied = True
        fin = bool(flags & spdyframes.FIN)
        if fin:
            self._end_receiving(stream_id, stream)
        self._events.append(StreamAccepted(stream_id, headers, fin))

    def _headers(self, flags: int, body: bytes) -> None:
        if len(body) < 4:
            raise SpdyError("HEADERS is cut off")
        stream_id = int.from_bytes(body[:4], "big") & _LARGEST_ID
        headers = self._reader.read(body[4:])
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receives:
            return
        fin = bool(flags & spdyframes.FIN)
        if fin:
            self._end_receiving(stream_id, stream)
        self._events.append(HeadersReceived(stream_id, headers, fin))

    def _settings(self, body: bytes) -> None:
        for kind, value in spdyframes.settings(body):
            if kind == spdyframes.INITIAL_WINDOW_SIZE:
                self._peer_window = min(value, _LARGEST_WINDOW)
        if self._peer_window is not None:
            for stream_id in [found for found, stream in self._streams.items() if stream.unsent is not None]:
                self._send_unsent(stream_id)

    def _window_update(self, stream_id: int, delta: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.outstanding -= delta
        if stream.outstanding < -_LARGEST_WINDOW:
            raise SpdyError(f"the window of stream {stream_id} has become too large")
        if stream.unsent is not None:
            self._send_unsent(stream_id)

    def _send_unsent(self, stream_id: int) -> None:
        stream = self._streams[stream_id]
        unsent = stream.unsent
        assert unsent is not None and self._peer_window is not None
        room = self._peer_window - stream.outstanding
        while unsent and room > 0:
            data = unsent.popleft()
            if len(data) > room:
                view = memoryview(data)
                unsent.appendleft(view[room:])
                data = view[:room]
            room -= len(data)
            stream.unsent_size -= len(data)
            self._send(stream_id, stream, data, stream.fin and not unsent)
        if not unsent:
            stream.unsent = None
            if stream.fin and stream.sends:
                self._send(stream_id, stream, b"", True)
            self._events.append(StreamDrained(stream_id))

    def _send(self, stream_id: int, stream: StreamState, data: bytes | memoryview, fin: bool) -> None:
        size = len(data)
        out = self._out
        stream.outstanding += size
        if size > _FRAME:
            view = memoryview(data)
            while size > _FRAME:
                out += (spdyframes.data_header(stream_id, _FRAME, False), view[:_FRAME])
                view = view[_FRAME:]
                size -= _FRAME
            data = view
        if size or fin:
            out.append(spdyframes.data_header(stream_id, size, fin))
            if size:
                out.append(data)
        if fin:
            self._end_sending(stream_id, stream)

    def _send_reset(self, stream_id: int, status: int) -> None:
        self._out.append(spdyframes.rst_stream(stream_id, status))

    def _end_sending(self, stream_id: int, stream: StreamState) -> None:
        stream.sends = False
        if not stream.receives:
            self._forget(stream_id, stream)

    def _end_receiving(self, stream_id: int, stream: StreamState) -> None:
        stream.receives = False
        if not stream.sends:
            self._forget(stream_id, stream)

    def _forget(self, stream_id: int, stream: StreamState) -> None:
        stream.sends = stream.receives = False
        stream.unsent = None
        stream.unsent_size = 0
        del self._streams[stream_id]
        if not stream.ours:
            self._peer_streams -= 1
