"""The frames of a file: a length, a checksum and a payload. Data after an incomplete or damaged frame is ignored."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_HEAD = struct.Struct("<II")
# The longest frame. A larger length is damaged.
LONGEST = 64 << 20


def frame(payload: bytes | memoryview) -> bytes:
    """Return a payload as a frame."""
    return b"".join((_HEAD.pack(len(payload), zlib.crc32(payload)), payload))


def frames(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the payloads, up to the end or to the first frame that is incomplete or damaged."""
    view = memoryview(data)
    at = 0
    while at + _HEAD.size <= len(view):
        length, checksum = _HEAD.unpack_from(view, at)
        payload = view[at + _HEAD.size : at + _HEAD.size + length]
        if length > LONGEST or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield payload
        at += _HEAD.size + length
