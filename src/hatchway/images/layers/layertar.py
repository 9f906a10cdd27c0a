"""Reads the entries of a layer's tar archive as its bytes arrive, with bounded memory for any archive.

    tar = LayerTar(read_chunk, limits)
    while (entry := tar.next_entry()) is not None:
        while piece := tar.read_piece(): ...

The standard library's `tarfile` reads headers of any size into memory, decodes names, and takes several times as long.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hatchway.images.layers.layererrors import BadLayer, UnpackLimits
from hatchway.images.layers.layertree import shown
from hatchway.images.layers.sparsemaps import Pieces, SparseMap, old_map, pax_map, pax_size, stored_map
from hatchway.images.layers.tarheaders import (
    BLOCK,
    TarHeader,
    parse_header,
    parse_pax,
    pax_nanoseconds,
    pax_number,
    text,
)

# The largest special header, as in Go (`maxSpecialFileSize`), and the most special headers before one entry.
_LARGEST_HEADER: Final = 1 << 20
_MOST_HEADERS: Final = 16
_LARGEST_ID: Final = (1 << 32) - 2
_ZEROS: Final = bytes(BLOCK)


class EntryKind(enum.Enum):
    """The kind of an entry."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


_KINDS: Final = {
    b"0": EntryKind.FILE,
    b"\0": EntryKind.FILE,
    b"7": EntryKind.FILE,
    b"S": EntryKind.FILE,
    b"1": EntryKind.HARD_LINK,
    b"2": EntryKind.SYMLINK,
    b"3": EntryKind.CHARACTER_DEVICE,
    b"4": EntryKind.BLOCK_DEVICE,
    b"5": EntryKind.DIRECTORY,
    b"6": EntryKind.FIFO,
}


@dataclass(slots=True)
class LayerEntry:
    """One entry of the archive.

    name: as written in the archive. mtime: nanoseconds since 1970. link: the target of a link.
    size: the file's whole size in bytes, including holes. pieces: for a sparse file, its data as (offset, length), else
    None. xattrs: extended attributes by their names. device: major and minor number.
    """

    name: bytes
    kind: EntryKind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    link: bytes
    device: tuple[int, int] = (0, 0)
    pieces: Pieces | None = None
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Extensions:
    """The fields that special headers set for the next entry."""

    name: bytes | None = None
    link: bytes | None = None
    records: dict[bytes, bytes] = field(default_factory=dict)
    sparse_blocks: list[tuple[bytes, bytes]] = field(default_factory=list)


class LayerTar:
    """Reads one archive.

    entries: the number of entries so far.
    """

    def __init__(self, read_chunk: Callable[[], bytes], limits: UnpackLimits) -> None:
        """Read the archive in pieces. read_chunk: returns the next bytes of the archive; b"" at the end."""
        self.entries = 0
        self._read_chunk = read_chunk
        self._limits = limits
        self._chunk = memoryview(b"")
        self._at = 0
        # The unread bytes of the current entry's content, and the padding after them.
        self._left = 0
        self._padding = 0
        self._ended = False

    def next_entry(self) -> LayerEntry | None:
        """Return the next entry, or None at the end of the archive. Raises BadLayer."""
        extensions: _Extensions | None = None
        special = 0
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            block = self._next_block()
            if block is None:
                if extensions is not None:
                    raise BadLayer("the archive ends after a header that announces another entry")
                return None
            header = parse_header(block)
            if header.kind not in (b"x", b"g", b"L", b"K"):
                return self._entry(header, block, extensions)
            special += 1
            if special > _MOST_HEADERS or header.size > _LARGEST_HEADER:
                raise BadLayer("a header is too large, or there are too many before one entry")
            content = self._take(header.size)
            self._padding = -header.size % BLOCK
            if header.kind != b"g":
                extensions = extensions or _Extensions()
                _extend(extensions, header.kind, content)

    def read_piece(self) -> memoryview:
        """Return the next bytes of the entry's stored content; empty at its end. Raises BadLayer."""
        if not self._left:
            return self._chunk[:0]
        return self._piece(self._left)

    def _piece(self, most: int) -> memoryview:
        if self._at == len(self._chunk):
            self._refill()
        piece = self._chunk[self._at : self._at + most]
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def _entry(self, header: TarHeader, block: bytes, extensions: _Extensions | None) -> LayerEntry:
        self.entries += 1
        if self.entries > self._limits.entries:
            raise BadLayer(f"there are more than {self._limits.entries} entries")
        kind = _KINDS.get(header.kind)
        if kind is None:
            raise BadLayer(f"{shown(header.name)}: entries of type {header.kind.decode('latin-1')!a} are unknown")
        entry = LayerEntry(
            header.name, kind, header.mode, header.uid, header.gid, header.mtime, header.size, header.link,
            header.device,
        )  # fmt: skip
        if extensions is not None:
            _apply(entry, extensions)
        if kind is not EntryKind.FILE:
            # These entries have no content, even if their size is not 0 (Go's `isHeaderOnly`).
            entry.size = 0
        elif header.kind == b"\0" and entry.name.endswith(b"/"):
            # Formats older than ustar mark a directory by a slash at the end of its name.
            entry.kind, entry.size = EntryKind.DIRECTORY, 0
        if not (0 <= entry.uid <= _LARGEST_ID and 0 <= entry.gid <= _LARGEST_ID):
            raise BadLayer(f"{shown(entry.name)}: the number of its owner is out of range")
        self._left, self._padding = entry.size, -entry.size % BLOCK
        if entry.kind is EntryKind.FILE:
            self._find_holes(entry, header, block, extensions)
        return entry

    def _find_holes(self, entry: LayerEntry, header: TarHeader, block: bytes, extensions: _Extensions | None) -> None:
        """Set `size` and `pieces` of a sparse file."""
        found: SparseMap | None = None
        if header.kind == b"S":
            # `size` does not count the further blocks of the map.
            found = old_map(block, self._take)
        elif extensions is not None:
            found = self._pax_holes(extensions)
            entry.name = extensions.records.get(b"GNU.sparse.name", entry.name) if found else entry.name
        if found is not None:
            entry.size, entry.pieces = found.size, found.pieces
            if sum(length for _, length in found.pieces) != self._left:
                raise BadLayer(f"{shown(entry.name)}: the archive does not hold what the map of its holes says")

    def _pax_holes(self, extensions: _Extensions) -> SparseMap | None:
        records = extensions.records
        version = records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")
        if version == (b"1", b"0"):
            return stored_map(pax_size(records), self._take_content)
        if version in ((None, None), (b"0", b"0"), (b"0", b"1")):
            return pax_map(records, extensions.sparse_blocks)
        raise BadLayer("a sparse file is in an unknown format")

    def _next_block(self) -> bytes | None:
        """Return the next header's block; None at the end: two blocks of zeros, or no more bytes."""
        if self._ended or not self._has_more():
            return None
        block = self._take(BLOCK)
        if block != _ZEROS:
            return block
        self._ended = True
        if self._has_more() and self._take(BLOCK) != _ZEROS:
            raise BadLayer("there are bytes after a block of zeros")
        return None

    def _has_more(self) -> bool:
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(self._read_chunk()), 0
        return len(self._chunk) > 0

    def _refill(self) -> None:
        if not self._has_more():
            raise BadLayer("the archive is cut off")

    def _take(self, count: int) -> bytes:
        """Read exactly `count` bytes of the archive."""
        end = self._at + count
        if end <= len(self._chunk):
            found = bytes(self._chunk[self._at : end])
            self._at = end
            return found
        parts: list[memoryview] = []
        while count:
            if self._at == len(self._chunk):
                self._refill()
            part = self._chunk[self._at : self._at + count]
            self._at += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _take_content(self, count: int) -> bytes:
        """Read exactly `count` bytes of the entry's content."""
        if count > self._left:
            raise BadLayer("the map of a sparse file is cut off")
        self._left -= count
        return self._take(count)

    def _skip(self, count: int) -> None:
        while count:
            if self._at == len(self._chunk):
                self._refill()
            step = min(count, len(self._chunk) - self._at)
            self._at += step
            count -= step


def _extend(extensions: _Extensions, kind: bytes, content: bytes) -> None:
    if kind == b"L":
        extensions.name = text(content)
    elif kind == b"K":
        extensions.link = text(content)
    else:
        # As in Go's reader, only the last of several pax headers is used.
        extensions.records, extensions.sparse_blocks = {}, []
        for key, value in parse_pax(content):
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                extensions.sparse_blocks.append((key, value))
            else:
                extensions.records[key] = value


def _apply(entry: LayerEntry, extensions: _Extensions) -> None:
    for key, value in extensions.records.items():
        if key.startswith(b"SCHILY.xattr."):
            entry.xattrs[key[13:]] = value
        elif not value:
            # An empty value cancels the pax record: the header's own field is used.
            continue
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = pax_number(value)
        elif key == b"uid":
            entry.uid = pax_number(value)
        elif key == b"gid":
            entry.gid = pax_number(value)
        elif key == b"mtime":
            entry.mtime = pax_nanoseconds(value)
    entry.name = entry.name if extensions.name is None else extensions.name
    entry.link = entry.link if extensions.link is None else extensions.link
    if b"\0" in entry.name or b"\0" in entry.link or b"\0" in extensions.records.get(b"GNU.sparse.name", b""):
        raise BadLayer("the name of an entry has a NUL")
