"""Compressed chunks: the samples of one series over a period, as bytes.

Times are stored as deltas of deltas, which are all zero when a target is scraped on time. Each value is XORed with the
value before it, as in Gorilla (Pelkonen et al., VLDB 2015). Then the first bytes of all values are put together, then
the second bytes, and so on, and the result is deflated. All loops run in C: XOR and its inverse are computed on one
long integer, which is 20 times as fast as a loop over the samples.

    u8 flags | u16 count | i64 first time | [i64 first delta | [times]] | values
"""

from __future__ import annotations

import struct
import zlib
from array import array
from itertools import accumulate
from operator import sub

# The count is 16 bits wide.
LONGEST = 65_535
_HEAD = struct.Struct("<BHq")
_DELTA = struct.Struct("<q")
_SIZE = struct.Struct("<I")
_REGULAR, _CONSTANT = 1, 2


def encode(times: array[int], values: array[float]) -> bytes:
    """Return the samples as bytes.

    Args:
        times: milliseconds, ascending ("q"); 1 to `LONGEST`.
        values: the same number of values ("d").
    """
    count = len(times)
    flags = 0
    deltas = list(map(sub, times[1:], times))
    steps = list(map(sub, deltas[1:], deltas))
    raw = values.tobytes()
    if not any(steps):
        flags |= _REGULAR
    if raw == raw[:8] * count:
        flags |= _CONSTANT
    parts = [_HEAD.pack(flags, count, times[0])]
    if deltas:
        parts.append(_DELTA.pack(deltas[0]))
    if not flags & _REGULAR:
        packed = zlib.compress(_shuffle(array("q", steps).tobytes()), 6)
        parts += (_SIZE.pack(len(packed)), packed)
    if flags & _CONSTANT:
        parts.append(raw[:8])
    else:
        number = int.from_bytes(raw, "little")
        xored = (number ^ (number << 64)) & ((1 << (64 * count)) - 1)
        parts.append(zlib.compress(_shuffle(xored.to_bytes(8 * count, "little")), 6))
    return b"".join(parts)


def decode(data: bytes) -> tuple[array[int], array[float]]:
    """Return the times and values of a chunk. Raises ValueError when it is damaged."""
    try:
        return _decode(data)
    except (struct.error, zlib.error, OverflowError) as error:
        raise ValueError(f"a damaged chunk: {error}") from error


def _decode(data: bytes) -> tuple[array[int], array[float]]:
    flags, count, first = _HEAD.unpack_from(data)
    at = _HEAD.size
    times = array("q", (first,))
    if count > 1:
        (delta,) = _DELTA.unpack_from(data, at)
        at += _DELTA.size
        if flags & _REGULAR:
            times = array("q", range(first, first + delta * count, delta)) if delta else times * count
        else:
            (size,) = _SIZE.unpack_from(data, at)
            at += _SIZE.size
            steps = array("q", _unshuffle(_inflate(data[at : at + size], 8 * (count - 2))))
            at += size
            times = array("q", accumulate(accumulate(steps, initial=delta), initial=first))
    if flags & _CONSTANT:
        values = array("d", data[at : at + 8]) * count
    else:
        number = int.from_bytes(_unshuffle(_inflate(data[at:], 8 * count)), "little")
        width, shift = 64 * count, 64
        while shift < width:
            number ^= number << shift
            shift *= 2
        values = array("d", (number & ((1 << width) - 1)).to_bytes(8 * count, "little"))
    if len(times) != count or len(values) != count:
        raise ValueError("a damaged chunk: samples are missing")
    return times, values


def _inflate(data: bytes, size: int) -> bytes:
    """Inflate to exactly `size` bytes."""
    inflater = zlib.decompressobj()
    found = inflater.decompress(data, size + 1)
    if len(found) != size:
        raise ValueError("a damaged chunk: it has another size")
    return found


def _shuffle(data: bytes) -> bytes:
    """Put the first bytes of all numbers first, then the second ones, and so on, so that equal bytes come together."""
    return b"".join([data[place::8] for place in range(8)])


def _unshuffle(data: bytes) -> bytes:
    """Undo `_shuffle`."""
    count = len(data) // 8
    found = bytearray(len(data))
    for place in range(8):
        found[place::8] = data[place * count : (place + 1) * count]
    return bytes(found)
