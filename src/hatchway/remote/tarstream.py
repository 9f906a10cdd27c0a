"""Parses a tar archive from a pod into members and their contents. Pure, and with bounded memory.

It supports POSIX ustar with the extensions of GNU tar and pax for long names, large sizes and exact times (POSIX.1-2017
pax "Interchange Format", GNU tar manual "Basic Tar Format"). Python's tarfile reads headers of any length into memory,
and needs a blocking file.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
# The maximum number of bytes of a long name, of a pax header, and of a member's content.
_LONGEST_NAME: Final = 16 * 1024
_LARGEST_PAX: Final = 1 << 20
_LARGEST: Final = 1 << 62
# The end of the year 9999 (seconds since 1970): systems and libraries do not support later times.
_LATEST: Final = 253_402_300_799


class TarError(Exception):
    """The archive is malformed, or exceeds a limit."""


class Kind(enum.Enum):
    """The kind of a member."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    LINK = "hard link"
    OTHER = "special file"


_KINDS: Final = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.LINK,
    b"2": Kind.SYMLINK,
    b"5": Kind.DIRECTORY,
}


@dataclass(frozen=True, slots=True)
class Member:
    """A member's header.

    path: the path in the archive, decoded by `os.fsdecode`.
    mtime: nanoseconds since 1970; at most the end of the year 9999.
    size: the number of content bytes.
    link: the target of a link.
    """

    path: str
    kind: Kind
    mode: int
    mtime: int
    size: int
    link: str = ""


class TarReader:
    """Reads one archive.

    ended: True once the end of the archive has arrived; later bytes are padding.
    taken: the number of bytes that were fed so far.
    """

    def __init__(self) -> None:
        self.ended = False
        self.taken = 0
        self._buffer = bytearray()
        self._left = 0
        self._padding = 0
        self._member: Member | None = None
        # Fields of the next member, from long-name and pax headers.
        self._next: dict[str, str] = {}
        self._zeros = 0

    def feed(self, data: bytes) -> Iterator[Member | memoryview | None]:
        """Yield the events in `data`: a `Member`, pieces of its content, then None at the content's end.

        Raises:
            TarError: the archive cannot be read.
        """
        view = memoryview(data)
        self.taken += len(view)
        while len(view) and not self.ended:
            if self._member is not None and self._left:
                piece = view[: self._left]
                view = view[len(piece) :]
                self._left -= len(piece)
                yield piece
                if self._left:
                    return
            if self._member is not None:
                self._member = None
                yield None
            if self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
                continue
            missing = self._wanted() - len(self._buffer)
            self._buffer += view[:missing]
            view = view[missing:]
            if len(self._buffer) == self._wanted():
                member = self._header()
                if member is not None:
                    self._member, self._left = member, member.size
                    self._padding = -member.size % BLOCK
                    yield member
                    if not member.size:
                        self._member = None
                        yield None

    def _wanted(self) -> int:
        """Return the size of the next header; for a long-name or pax header, including its content."""
        if len(self._buffer) < BLOCK:
            return BLOCK
        kind = bytes(self._buffer[156:157])
        if kind not in (b"L", b"K", b"x", b"g"):
            return BLOCK
        size = _number(self._buffer[124:136])
        if size > (_LARGEST_PAX if kind in (b"x", b"g") else _LONGEST_NAME):
            raise TarError("a header of the archive is too large")
        return BLOCK + size + -size % BLOCK

    def _header(self) -> Member | None:
        block, content = self._buffer[:BLOCK], bytes(self._buffer[BLOCK:])
        if not any(block):
            self._buffer.clear()
            self._zeros += 1
            self.ended = self._zeros == 2
            return None
        self._zeros = 0
        _check(block)
        kind = bytes(block[156:157])
        if kind in (b"L", b"K", b"x", b"g"):
            if len(self._buffer) < self._wanted():
                return None
            self._buffer.clear()
            size = _number(block[124:136])
            if kind == b"x":
                self._next |= _pax(content[:size])
            elif kind != b"g":
                self._next["path" if kind == b"L" else "linkpath"] = os.fsdecode(content[:size].split(b"\0", 1)[0])
            return None
        self._buffer.clear()
        known, self._next = self._next, {}
        return _member(block, kind, known)


def _member(block: bytearray, kind: bytes, known: dict[str, str]) -> Member:
    name, prefix = _text(block[:100]), _text(block[345:500])
    if prefix and block[257:263] == b"ustar\0":
        name = f"{prefix}/{name}"
    path = known.get("path", name)
    found = _KINDS.get(kind, Kind.OTHER)
    if kind == b"\0" and path.endswith("/"):
        # Older formats than ustar mark a directory by a slash.
        found = Kind.DIRECTORY
    size = _decimal(known["size"]) if "size" in known else _number(block[124:136])
    if size > _LARGEST:
        raise TarError("a member of the archive is too large")
    if found in (Kind.DIRECTORY, Kind.SYMLINK, Kind.LINK):
        size = 0
    mtime = _nanoseconds(known["mtime"]) if "mtime" in known else _number(block[136:148]) * 1_000_000_000
    mtime = min(mtime, _LATEST * 1_000_000_000)
    link = known.get("linkpath", _text(block[157:257]))
    if "\0" in path or "\0" in link:
        raise TarError("a name in the archive has a NUL")
    return Member(path, found, _number(block[100:108]) & 0o7777, mtime, size, link)


def _check(block: bytearray) -> None:
    """Raise TarError unless the header's checksum is right."""
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    if _number(block[148:156]) != total:
        raise TarError("this is no tar archive, or it is damaged")


def _text(field: bytearray) -> str:
    return os.fsdecode(bytes(field).split(b"\0", 1)[0])


def _number(field: bytearray) -> int:
    """Return a number in octal digits, or in GNU's base 256; negative times count as 0."""
    if field and field[0] & 0x80:
        found = int.from_bytes(field, "big")
        return 0 if field[0] == 0xFF else found - (0x80 << 8 * (len(field) - 1))
    text = bytes(field).split(b"\0", 1)[0].strip()
    if not text:
        return 0
    if not all(0x30 <= digit <= 0x37 for digit in text):
        raise TarError("a number in the archive is malformed")
    return int(text, 8)


def _pax(content: bytes) -> dict[str, str]:
    """Return the records that a `Member` needs."""
    found: dict[str, str] = {}
    at = 0
    while at < len(content):
        blank = content.find(b" ", at, at + 8)
        digits = content[at:blank]
        if blank < 0 or not digits.isdigit():
            raise TarError("a pax header of the archive is malformed")
        end = at + int(digits)
        record = content[blank + 1 : end]
        if end > len(content) or not record.endswith(b"\n") or b"=" not in record:
            raise TarError("a pax header of the archive is malformed")
        key, _, value = record[:-1].partition(b"=")
        if key in (b"path", b"linkpath", b"size", b"mtime"):
            found[key.decode()] = os.fsdecode(value)
        at = end
    return found


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise TarError("a size in the archive is malformed")
    return int(text)


def _nanoseconds(text: str) -> int:
    whole, _, fraction = text.partition(".")
    if whole.startswith("-"):
        return 0
    return _decimal(whole or "0") * 1_000_000_000 + _decimal((fraction[:9] or "0").ljust(9, "0"))
