"""Blocks: the compressed samples of all series over a period, in memory or as one file.

A file has three frames: the labels of its series (msgpack, deflated), the places of their chunks, the chunks. The file
is written under another name and then renamed, so it is never incomplete.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hatchway.addons.monitoring.tsdb.chunks import decode
from hatchway.addons.monitoring.tsdb.frames import frame, frames
from hatchway.addons.monitoring.tsdb.labels import Labels

_SPAN = struct.Struct("<qq")
_pairs = msgspec.msgpack.Decoder(list[tuple[tuple[str, str], ...]])
# Bytes: a limit for the labels in a hostile file. The labels of 50,000 series have about 20 MB.
_LABEL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class BlockFile:
    """The file to which a block is to be written.

    path: the file.
    journals: the files that contain the block's samples until it is written.
    """

    path: Path
    journals: tuple[Path, ...]


@dataclass(slots=True)
class SampleBlock:
    """A period's samples.

    begin, end: the times of the first and the last sample, milliseconds.
    places: the place of each series' chunk in `data`, as one number: offset << 24 | length.
    data: the chunks, one after the other. A mapped file does not count as this program's memory.
    size: the bytes of the file, or in memory; the files of `unwritten` are counted, too.
    path: the file; None for a block in memory.
    unwritten: where to write a block that is not in a file yet; None for a block in a file, and without a directory.
    """

    begin: int
    end: int
    places: dict[int, int]
    data: bytes | memoryview
    size: int
    path: Path | None = None
    unwritten: BlockFile | None = None

    def chunk(self, series: int) -> bytes | None:
        """Return a series' chunk; None when it has no samples in this block."""
        place = self.places.get(series)
        if place is None:
            return None
        offset = place >> 24
        return bytes(self.data[offset : offset + (place & 0xFFFFFF)])

    def samples(self, series: int) -> tuple[array[int], array[float]] | None:
        """Return a series' samples; None when it has none in this block. Raises ValueError for a damaged chunk."""
        chunk = self.chunk(series)
        return None if chunk is None else decode(chunk)


def places_of(chunks: Sequence[bytes]) -> list[int]:
    """Return the places of chunks that are written one after the other."""
    places, offset = [], 0
    for chunk in chunks:
        places.append(offset << 24 | len(chunk))
        offset += len(chunk)
    return places


def file_bytes(
    begin: int, end: int, labels: Sequence[Labels], places: Sequence[int], data: bytes | memoryview
) -> bytes:
    """Return the content of a block's file."""
    head = _SPAN.pack(begin, end) + zlib.compress(msgspec.msgpack.encode(labels), 6)
    return frame(head) + frame(array("Q", places).tobytes()) + frame(data)


def read_file(path: Path) -> tuple[SampleBlock, list[Labels]]:
    """Map a block's file, and return (block, labels). The keys of the block's `places` are indices into the labels.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    parts = list(frames(mapped))
    if len(parts) != 3:
        raise ValueError("a frame is missing or damaged")
    head, offsets, data = parts
    try:
        begin, end = _SPAN.unpack_from(head)
        inflated = zlib.decompressobj().decompress(bytes(head[_SPAN.size :]), _LABEL_BYTES)
        labels = _pairs.decode(inflated)
    except (struct.error, zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"the labels are damaged: {error}") from error
    places = array("Q", bytes(offsets))
    if len(places) != len(labels):
        raise ValueError("it has another number of chunks than of series")
    return SampleBlock(begin, end, dict(enumerate(places)), data, len(mapped), path), list(labels)
