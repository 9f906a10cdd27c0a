"""Parses the maps of sparse files: which parts of a file are in the archive. All other parts are holes. Pure.

GNU tar has four formats: an old format in the header (GNU tar manual, "Basic Tar Format", `struct sparse`), and three
that use pax headers ("Storing Sparse Files").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hatchway.images.layers.layererrors import BadLayer
from hatchway.images.layers.tarheaders import BLOCK, number, pax_number

# The maximum number of bytes of a map, as in Go (`maxSpecialFileSize`).
_LARGEST_MAP: Final = 1 << 20
# The largest file, in bytes; and the bytes of one piece in the old format.
_LARGEST_FILE: Final = 1 << 62
_OLD_PIECE: Final = 24

Pieces = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SparseMap:
    """The map of a sparse file. size: its whole size. pieces: (offset, length) of the data in the archive."""

    size: int
    pieces: Pieces


def old_map(block: bytes, take: Callable[[int], bytes]) -> SparseMap:
    """Return the map in GNU's old format, which begins in the header. take: reads the next bytes of the archive."""
    size = number(block[483:495])
    pieces: list[tuple[int, int]] = []
    more = _old_pieces(block[386:482], pieces) and block[482] != 0
    read = 0
    while more:
        read += BLOCK
        if read > _LARGEST_MAP:
            raise BadLayer("the map of a sparse file is too large")
        block = take(BLOCK)
        more = _old_pieces(block[:504], pieces) and block[504] != 0
    return _checked(size, pieces)


def _old_pieces(table: bytes, pieces: list[tuple[int, int]]) -> bool:
    """Append the pieces of a table to `pieces`. Return False when the table has unused slots at its end."""
    for at in range(0, len(table), _OLD_PIECE):
        if table[at] == 0:
            return False
        pieces.append((number(table[at : at + 12]), number(table[at + 12 : at + 24])))
    return True


def pax_map(records: dict[bytes, bytes], blocks: list[tuple[bytes, bytes]]) -> SparseMap | None:
    """Return the map in a pax header (formats 0.0 and 0.1); None when the header has none.

    records: `GNU.sparse.*` and their values. blocks: the records `GNU.sparse.offset` and `.numbytes`, which repeat.
    """
    text = records.get(b"GNU.sparse.map")
    if text is None and not blocks:
        return None
    if text:
        numbers = [pax_number(part) for part in text.split(b",")]
    elif text is not None:
        numbers = []
    else:
        expected = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"] * (len(blocks) // 2)
        if [key for key, _ in blocks] != expected:
            raise BadLayer("the map of a sparse file is malformed")
        numbers = [pax_number(value) for _, value in blocks]
    return _checked(pax_size(records), _pairs(numbers))


def pax_size(records: dict[bytes, bytes]) -> int:
    """Return the whole size of a sparse file from its pax header."""
    return pax_number(records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size", b"")))


def stored_map(size: int, take: Callable[[int], bytes]) -> SparseMap:
    """Return the map of format 1.0, which precedes the file's content.

    size: the whole size of the file. take: reads the next bytes of the content.
    """
    text = b""
    read = 0
    lines: list[bytes] = []
    wanted = 1
    while len(lines) < wanted:
        if read >= _LARGEST_MAP:
            raise BadLayer("the map of a sparse file is too large")
        text += take(BLOCK)
        read += BLOCK
        *complete, text = text.split(b"\n")
        lines += complete
        if len(text) > BLOCK:
            raise BadLayer("the map of a sparse file is malformed")
        if wanted == 1 and lines:
            wanted += 2 * min(pax_number(lines[0]), _LARGEST_MAP)
    return _checked(size, _pairs([pax_number(line) for line in lines[1:wanted]]))


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise BadLayer("the map of a sparse file is malformed")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _checked(size: int, pieces: list[tuple[int, int]]) -> SparseMap:
    """Return the map if its pieces follow each other within the file. Raises BadLayer."""
    if not 0 <= size <= _LARGEST_FILE:
        raise BadLayer("the size of a sparse file is out of range")
    end = 0
    for offset, length in pieces:
        if offset < end or length < 0 or offset + length > size:
            raise BadLayer("the pieces of a sparse file overlap, or lie outside of it")
        end = offset + length
    return SparseMap(size, tuple((offset, length) for offset, length in pieces if length))
