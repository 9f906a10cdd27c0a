"""WebSocket connections after the handshake (RFC 6455), for client and server, without extensions and without I/O.

The `websockets` library takes four times as long for a frame, and returns a frame only when all of it has arrived. This
is too slow for port-forward, whose bytes all pass through this file; kubectl sends ten frames for each connection. The
tests compare the results of this file with those of the library.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Final

from hatchway.wire.masking import apply_mask

# Status codes of close frames (RFC 6455 section 7.4.1).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
NO_STATUS: Final = 1005
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011

# Opcodes, bits, and the longest payload of a control frame (RFC 6455 section 5).
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FIN: Final = 0x80
_MASKED: Final = 0x80
_LARGEST_CONTROL: Final = 125
# The maximum number of pings that the peer may send between two calls of `data_to_send`.
_ANSWERS: Final = 1000

_u16 = struct.Struct(">H")
_u64 = struct.Struct(">Q")


class WebSocketError(Exception):
    """The peer has violated the protocol or a limit. code: the status code of this end's close frame."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class Message:
    """A complete message."""

    data: bytes
    is_text: bool


@dataclass(slots=True)
class Piece:
    """The next bytes of binary messages, for callers that ignore the ends of messages.

    data: the bytes; a view of the received buffer, unless they were masked.
    """

    data: bytes | memoryview


@dataclass(slots=True)
class PongReceived:
    """The peer has sent a pong, as the answer to a ping or on its own."""

    data: bytes


@dataclass(slots=True)
class CloseReceived:
    """The peer has sent a close frame, which is answered automatically. No event follows.

    code: the status code; `NO_STATUS` for none.
    """

    code: int
    reason: str


Event = Message | Piece | PongReceived | CloseReceived


class WebSocket:
    """One end of a connection.

    Pass received bytes to `receive_data`. After each call of any method, send the bytes that `data_to_send` returns.
    Pings are answered automatically.

    client: True for the client, which masks the bytes that it sends.
    largest: the maximum number of bytes of a received message. None when the messages only carry a byte stream:
        received bytes are then returned at once as `Piece`s, and messages are never collected.
    """

    def __init__(self, *, client: bool, largest: int | None) -> None:
        self._client = client
        self._largest = largest
        self._out: list[bytes | memoryview] = []
        self._answers = 0
        self._broken = False
        self._close_sent = False
        self._close_received = False
        # The incomplete header of a frame.
        self._held = b""
        # The frame that is being received: the number of missing bytes, its mask, and its FIN flag.
        self._left = 0
        self._mask = b""
        self._fin = False
        # The control frame that is being received: its opcode (0 for none), and the part that has arrived.
        self._control = 0
        self._control_data = b""
        # The message that is being received: its opcode (0 for none), and the part that has arrived.
        self._kind = 0
        self._message = bytearray()

    @property
    def closed(self) -> bool:
        """Return True when both ends have sent a close frame, so that the connection can be closed."""
        return self._close_sent and self._close_received

    @property
    def close_sent(self) -> bool:
        """Return True when this end has sent a close frame, so that nothing more can be sent."""
        return self._close_sent

    def data_to_send(self) -> list[bytes | memoryview]:
        """Remove and return the bytes that must be sent."""
        out, self._out = self._out, []
        self._answers = 0
        return out

    def send_binary(self, *parts: bytes | memoryview) -> None:
        """Send a binary message, the concatenation of `parts`. Does nothing after `close`."""
        self._send(_BINARY, parts)

    def send_text(self, text: bytes) -> None:
        """Send a text message. text: in UTF-8. Does nothing after `close`."""
        self._send(_TEXT, (text,))

    def ping(self, data: bytes = b"") -> None:
        """Send a ping. data: at most 125 bytes. Does nothing after `close`."""
        self._send(_PING, (data,))

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Send a close frame. After that, only the peer's close frame is expected.

        code: the status code; `NO_STATUS` for none.
        """
        data = b""
        if code != NO_STATUS:
            # A reason that is too long is cut off between two characters.
            data = _u16.pack(code) + reason.encode()[: _LARGEST_CONTROL - 2].decode(errors="ignore").encode()
        self._send(_CLOSE, (data,))
        self._close_sent = True

    def _send(self, kind: int, parts: tuple[bytes | memoryview, ...]) -> None:
        if self._close_sent:
            return
        size = sum(map(len, parts))
        masked = _MASKED if self._client else 0
        if size <= _LARGEST_CONTROL:
            head = bytes((_FIN | kind, masked | size))
        elif size < 65536:
            head = bytes((_FIN | kind, masked | 126)) + _u16.pack(size)
        else:
            head = bytes((_FIN | kind, masked | 127)) + _u64.pack(size)
        if not masked:
            self._out += (head, *parts)
            return
        mask = os.urandom(4)
        self._out += (head + mask, apply_mask(b"".join(parts), mask))

    def receive_data(self, data: bytes) -> list[Event]:
        """Parse received bytes, and return the resulting events. Bytes after the peer's close frame are ignored.

        Raises WebSocketError. Then send `data_to_send()`, which contains a close frame, and close the connection.
        """
        if self._broken:
            raise WebSocketError(PROTOCOL_ERROR, "the connection has already failed")
        events: list[Event] = []
        try:
            self._receive(data, events)
        except WebSocketError as error:
            self._broken = True
            self._held = b""
            self._message.clear()
            self.close(error.code, error.message)
            raise
        return events

    def _receive(self, data: bytes, events: list[Event]) -> None:
        at = 0
        if self._held:
            data = self._held + data
            self._held = b""
        end = len(data)
        in_pieces = self._largest is None
        view = memoryview(data)
        while not self._close_received:
            if self._left:
                if at == end:
                    return
                stop = min(end, at + self._left)
                piece: bytes | memoryview = view[at:stop] if in_pieces and not self._control else data[at:stop]
                if mask := self._mask:
                    piece = apply_mask(piece, mask)
                    if turn := len(piece) & 3:
                        self._mask = mask[turn:] + mask[:turn]
                self._left -= stop - at
                at = stop
                self._payload(piece, not self._left, events)
                continue
            start = self._begin(data, at, end)
            if start == at:
                self._held = data[at:]
                return
            at = start
            if not self._left:
                self._payload(b"", True, events)

    def _begin(self, data: bytes, at: int, end: int) -> int:
        """Parse a frame's header; return the offset of its payload, or `at` when the header is incomplete."""
        if end - at < 2:
            return at
        first, second = data[at], data[at + 1]
        size = second & 0x7F
        start = at + 2
        if size == 126:
            start += 2
        elif size == 127:
            start += 8
        masked = second & _MASKED
        if masked:
            start += 4
        if start > end:
            return at
        if size == 126:
            size = data[at + 2] << 8 | data[at + 3]
        elif size == 127:
            (size,) = _u64.unpack_from(data, at + 2)
        self._check(first, bool(masked), size)
        self._mask = data[start - 4 : start] if masked else b""
        self._left = size
        return start

    def _check(self, first: int, masked: bool, size: int) -> None:
        """Check and record a frame's kind. Raises WebSocketError when this kind is not allowed now."""
        kind = first & 0x0F
        fin = bool(first & _FIN)
        if first & 0x70:
            raise WebSocketError(PROTOCOL_ERROR, "a reserved bit is set")
        if masked == self._client:
            raise WebSocketError(PROTOCOL_ERROR, "a frame is masked" if masked else "a frame is not masked")
        if kind >= _CLOSE:
            if kind > _PONG or not fin or size > _LARGEST_CONTROL:
                raise WebSocketError(PROTOCOL_ERROR, "a control frame is malformed")
            self._control = kind
            return
        if kind > _BINARY:
            raise WebSocketError(PROTOCOL_ERROR, "a frame has an unknown kind")
        if (kind == _CONTINUATION) != bool(self._kind):
            raise WebSocketError(PROTOCOL_ERROR, "a continuation frame is missing, or has no message to continue")
        if self._largest is None:
            if kind == _TEXT:
                raise WebSocketError(UNSUPPORTED, "text messages are not supported")
            if size >> 63:
                raise WebSocketError(PROTOCOL_ERROR, "a frame's length is malformed")
        elif len(self._message) + size > self._largest:
            raise WebSocketError(TOO_BIG, f"a message has more than {self._largest} bytes")
        self._kind = kind or self._kind
        self._fin = fin

    def _payload(self, data: bytes | memoryview, whole: bool, events: list[Event]) -> None:
        """Take a piece of a frame's payload. whole: True for the last piece."""
        if self._control:
            self._control_data += data
            if whole:
                kind, payload = self._control, self._control_data
                self._control, self._control_data = 0, b""
                self._take_control(kind, payload, events)
            return
        kind = self._kind
        last = whole and self._fin
        if last:
            self._kind = 0
        if self._largest is None:
            if data:
                events.append(Piece(data))
            return
        message = self._message
        if not last:
            message += data
            return
        if message:
            message += data
            self._message = bytearray()
            data = bytes(message)
        else:
            data = bytes(data)
        if kind == _TEXT:
            try:
                data.decode()
            except UnicodeDecodeError:
                raise WebSocketError(INVALID_TEXT, "a text message is not UTF-8") from None
        events.append(Message(data, kind == _TEXT))

    def _take_control(self, kind: int, data: bytes, events: list[Event]) -> None:
        if kind == _PONG:
            events.append(PongReceived(data))
        elif kind == _PING:
            self._answers += 1
            if self._answers > _ANSWERS:
                raise WebSocketError(PROTOCOL_ERROR, "too many pings")
            self._send(_PONG, (data,))
        else:
            event = _parse_close(data)
            self._close_received = True
            self.close(event.code)
            events.append(event)


def _parse_close(data: bytes) -> CloseReceived:
    """Parse the payload of a close frame (RFC 6455 sections 5.5.1 and 7.4)."""
    if not data:
        return CloseReceived(NO_STATUS, "")
    if len(data) < 2:
        raise WebSocketError(PROTOCOL_ERROR, "a close frame is malformed")
    (code,) = _u16.unpack_from(data)
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise WebSocketError(PROTOCOL_ERROR, "a close frame has a code that must not be sent")
    try:
        return CloseReceived(code, data[2:].decode())
    except UnicodeDecodeError:
        raise WebSocketError(INVALID_TEXT, "the reason of a close frame is not UTF-8") from None
