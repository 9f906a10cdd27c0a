"""The events of a SPDY session, its exception, and the limits for a peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Headers = list[tuple[bytes, bytes]]


class SpdyError(Exception):
    """The peer has violated the protocol or a limit, or a method was called in a state that does not allow it."""


@dataclass(frozen=True, slots=True)
class SpdyLimits:
    """Limits on the data that a session stores for a peer.

    streams: the maximum number of streams of the peer that are open at the same time; further streams are refused.
    control: the maximum number of bytes of a control frame.
    header_block: the maximum number of bytes of a block of headers after decompression.
    headers: the maximum number of headers in one block.
    window: bytes that a peer with flow control may send on a new stream before any of these bytes is consumed.
    largest_window: the largest window. The window of a stream grows while the stream's reader is as fast as the peer.
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
    """The peer has opened a stream. fin: True when the peer will send no data."""

    stream_id: int
    headers: Headers
    fin: bool


@dataclass(slots=True)
class StreamAccepted:
    """The peer has accepted a stream that this end has opened. fin: True when the peer will send no data."""

    stream_id: int
    headers: Headers
    fin: bool


@dataclass(slots=True)
class HeadersReceived:
    """More headers of a stream have arrived. fin: True when they end the peer's direction."""

    stream_id: int
    headers: Headers
    fin: bool


@dataclass(slots=True)
class DataReceived:
    """Bytes of a stream have arrived, possibly a part of a frame only. fin: True when they end the peer's direction."""

    stream_id: int
    data: bytes
    fin: bool


@dataclass(slots=True)
class StreamReset:
    """The peer has ended both directions of a stream. status: the status code of its RST_STREAM."""

    stream_id: int
    status: int


@dataclass(slots=True)
class StreamDrained:
    """All bytes that `send_data` had queued for a stream were sent, because the peer has enlarged the window."""

    stream_id: int


@dataclass(slots=True)
class PingAnswered:
    """The peer has answered a ping of this end."""

    ping_id: int


@dataclass(slots=True)
class GoneAway:
    """The peer accepts no more streams (GOAWAY). last_stream_id: the last stream that the peer has accepted."""

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
