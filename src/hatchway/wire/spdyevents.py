"""The events of a SPDY session, its one error, and the limits that a peer is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Headers = list[tuple[bytes, bytes]]


class SpdyError(Exception):
    """The peer has broken the protocol or a limit, or a method was called that the session's state does not allow."""


@dataclass(frozen=True, slots=True)
class SpdyLimits:
    """The limits of what a peer may ask a session to keep.

    streams: open streams that the peer has opened; more are refused, each by itself.
    control: length of a control frame, in bytes.
    header_block: one block of headers after decompression, in bytes.
    headers: in one block.
    window: bytes that a peer which obeys windows may send on a new stream before they are consumed.
    largest_window: the same on a stream whose bytes were consumed at once when they came.
    """

    streams: int = 4096
    control: int = 32 * 1024
    header_block: int = 64 * 1024
    headers: int = 100
    window: int = 1024 * 1024
    largest_window: int = 4 * 1024 * 1024


LIMITS: Final = SpdyLimits()


@dataclass(slots=True)
class StreamOpened:
    """The peer has opened a stream. fin: it will send nothing on it."""

    stream_id: int
    headers: Headers
    fin: bool


@dataclass(slots=True)
class StreamAccepted:
    """The peer has accepted a stream that was opened here. fin: it will send nothing on it."""

    stream_id: int
    headers: Headers
    fin: bool


@dataclass(slots=True)
class HeadersReceived:
    """More headers of a stream have arrived. fin: they end the stream."""

    stream_id: int
    headers: Headers
    fin: bool


@dataclass(slots=True)
class DataReceived:
    """Bytes of a stream have arrived; a piece need not be a whole frame. fin: they end the stream."""

    stream_id: int
    data: bytes
    fin: bool


@dataclass(slots=True)
class StreamReset:
    """The peer has ended a stream both ways. status: of RST_STREAM."""

    stream_id: int
    status: int


@dataclass(slots=True)
class StreamDrained:
    """All bytes of a stream that `send_data` has kept were sent: the peer has enlarged the window."""

    stream_id: int


@dataclass(slots=True)
class PingAnswered:
    """The peer has answered a ping of this side."""

    ping_id: int


@dataclass(slots=True)
class GoneAway:
    """The peer accepts no more streams. last_stream_id: the last one that it has accepted."""

    last_stream_id: int
    status: int


Event = (
    StreamOpened
    | StreamAccepted
    | HeadersReceived
    | DataReceived
    | StreamReset
    | StreamDrained
    | PingAnswered
    | GoneAway
)
