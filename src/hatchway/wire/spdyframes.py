"""Parses and makes SPDY/3.1 frames, without any state of streams.

Source: SPDY protocol draft 3.1, section 2.2 and 2.6.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from hatchway.wire.spdyevents import SpdyError

# The types of control frames, the number of a setting, and flags.
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
INITIAL_WINDOW_SIZE: Final = 7
FIN: Final = 0x01
UNIDIRECTIONAL: Final = 0x02

# The first 16 bits of a control frame of version 3.
_CONTROL: Final = 0x80030000
_VERSION: Final = 3

_two_words = struct.Struct(">II")
_three_words = struct.Struct(">III")
_four_words = struct.Struct(">IIII")


def data_header(stream_id: int, size: int, fin: bool) -> bytes:
    """Return the header of a DATA frame. size: at most 2**24 - 1."""
    return _two_words.pack(stream_id, size | FIN << 24 if fin else size)


def syn_stream(stream_id: int, block: bytes, fin: bool) -> bytes:
    """Return a SYN_STREAM of the highest priority. block: compressed headers."""
    size = len(block) + 10
    return _four_words.pack(_CONTROL | SYN_STREAM, size | FIN << 24 if fin else size, stream_id, 0) + b"\0\0" + block


def syn_reply(stream_id: int, block: bytes, fin: bool) -> bytes:
    """Return a SYN_REPLY. block: compressed headers."""
    size = len(block) + 4
    return _three_words.pack(_CONTROL | SYN_REPLY, size | FIN << 24 if fin else size, stream_id) + block


def rst_stream(stream_id: int, status: int) -> bytes:
    """Return a RST_STREAM."""
    return _four_words.pack(_CONTROL | RST_STREAM, 8, stream_id, status)


def initial_window(size: int) -> bytes:
    """Return a SETTINGS that announces the initial window of streams. size: in bytes."""
    return _four_words.pack(_CONTROL | SETTINGS, 12, 1, INITIAL_WINDOW_SIZE) + size.to_bytes(4, "big")


def ping(ping_id: int) -> bytes:
    """Return a PING."""
    return _three_words.pack(_CONTROL | PING, 4, ping_id)


def goaway(last_stream_id: int, status: int) -> bytes:
    """Return a GOAWAY."""
    return _four_words.pack(_CONTROL | GOAWAY, 8, last_stream_id, status)


def window_update(stream_id: int, delta: int) -> bytes:
    """Return a WINDOW_UPDATE."""
    return _four_words.pack(_CONTROL | WINDOW_UPDATE, 8, stream_id, delta)


def words(body: bytes, count: int) -> tuple[int, ...]:
    """Return the `count` 32-bit numbers of which a control frame consists. Raises SpdyError."""
    if len(body) != 4 * count:
        raise SpdyError("a control frame has a wrong length")
    return struct.unpack(f">{count}I", body)


def settings(body: bytes) -> list[tuple[int, int]]:
    """Return the (id, value) pairs of a SETTINGS. Raises SpdyError."""
    count = int.from_bytes(body[:4], "big")
    if len(body) != 4 + 8 * count:
        raise SpdyError("SETTINGS has a wrong length")
    return [(kind & 0xFFFFFF, value) for kind, value in _two_words.iter_unpack(body[4:])]


class FrameSink(Protocol):
    """The receiver of frames. An exception from one of its methods ends the session."""

    def take_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Take a piece of a DATA frame. fin: True for the last piece of a frame with FIN."""

    def take_control(self, kind: int, flags: int, body: bytes) -> None:
        """Take a control frame. body: the frame without its header."""


class FrameReader:
    """Splits received bytes into frames.

    DATA frames are passed on piece by piece as they arrive, and are never collected. Control frames are collected.

    control: the maximum number of bytes of a control frame; a longer one raises SpdyError.
    """

    __slots__ = ("_control", "_fin", "_held", "_left", "_stream_id")

    def __init__(self, control: int) -> None:
        self._control = control
        self._held = bytearray()
        # The DATA frame that is being received: its stream, the number of missing bytes, its FIN flag.
        self._stream_id = 0
        self._left = 0
        self._fin = False

    def feed(self, data: bytes | memoryview, sink: FrameSink) -> None:
        """Parse received bytes, and pass complete control frames and pieces of DATA to `sink`. Raises SpdyError."""
        at = 0
        end = len(data)
        if self._held:
            at = self._complete(data, sink)
        while at < end:
            if left := self._left:
                stop = at + left
                if stop > end:
                    self._left = stop - end
                    sink.take_data(self._stream_id, bytes(data[at:]), False)
                    return
                self._left = 0
                sink.take_data(self._stream_id, bytes(data[at:stop]), self._fin)
                at = stop
                continue
            if end - at < 8:
                self._held += data[at:]
                return
            first, second = _two_words.unpack_from(data, at)
            if first < 0x80000000:
                at += 8
                self._begin(first, second, sink)
                continue
            size = self._check(first, second)
            if end - at - 8 < size:
                self._held += data[at:]
                return
            at += 8
            sink.take_control(first & 0xFFFF, second >> 24, bytes(data[at : at + size]))
            at += size

    def _complete(self, data: bytes | memoryview, sink: FrameSink) -> int:
        """Add the beginning of `data` to the incomplete frame. Return the number of bytes that belong to this frame."""
        held = self._held
        at = 0
        if len(held) < 8:
            at = min(8 - len(held), len(data))
            held += data[:at]
            if len(held) < 8:
                return at
        first, second = _two_words.unpack_from(held)
        if first < 0x80000000:
            held.clear()
            self._begin(first, second, sink)
            return at
        needed = 8 + self._check(first, second) - len(held)
        piece = data[at : at + needed]
        held += piece
        if len(piece) == needed:
            body = bytes(held[8:])
            held.clear()
            sink.take_control(first & 0xFFFF, second >> 24, body)
        return at + len(piece)

    def _begin(self, stream_id: int, word: int, sink: FrameSink) -> None:
        self._stream_id = stream_id
        self._left = word & 0xFFFFFF
        self._fin = bool(word >> 24 & FIN)
        if not self._left:
            sink.take_data(stream_id, b"", self._fin)

    def _check(self, first: int, second: int) -> int:
        """Return the length of a control frame's body."""
        if (version := first >> 16 & 0x7FFF) != _VERSION:
            raise SpdyError(f"version {version} of SPDY is not supported")
        size = second & 0xFFFFFF
        if size > self._control:
            raise SpdyError(f"a control frame has {size} bytes; {self._control} are allowed")
        return size
