"""Parses the 512 bytes of a tar header, and the records of a pax header. Pure.

Formats: POSIX.1-2017 "pax Interchange Format" and "ustar"; GNU tar manual "Basic Tar Format". Where implementations
differ, this one follows Go's `archive/tar` (`reader.go`, `strconv.go`), which Docker and containerd use. So Hatchway
reads the same content from a layer as these engines.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from hatchway.images.layers.layererrors import BadLayer

BLOCK: Final = 512
_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
# The latest time: seconds since 1970 that fit into 64 bits as nanoseconds (the year 2255). Later times are replaced by
# this time.
_LATEST_SECONDS: Final = 9_000_000_000


@dataclass(slots=True)
class TarHeader:
    """The fields of one header.

    name, link: as bytes, up to their first NUL. kind: the type flag, one byte. mtime: nanoseconds since 1970.
    device: major and minor number. is_gnu: whether the format is GNU's, with its own fields in place of the prefix.
    """

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    kind: bytes
    link: bytes
    device: tuple[int, int]
    is_gnu: bool


def parse_header(block: bytes) -> TarHeader:
    """Return the header in a block that is not all zeros. Raises BadLayer."""
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, version, _, _, major, minor, prefix = (
        _FIELDS.unpack(block)
    )
    _check(block, checksum)
    is_gnu = magic == b"ustar " and version == b" \0"
    name = text(name)
    if magic == b"ustar\0" and prefix[0]:
        # star's own format ends with "tar\0", and has two times at the end of the prefix.
        name = text(prefix[:131] if block[508:512] == b"tar\0" else prefix) + b"/" + name
    device = (number(major), number(minor)) if kind in b"34" else (0, 0)
    seconds = max(-_LATEST_SECONDS, min(number(mtime), _LATEST_SECONDS))
    size = number(size)
    if size < 0:
        raise BadLayer("the size of an entry is negative")
    return TarHeader(
        name, number(mode) & 0o7777, number(uid), number(gid), size, seconds * 1_000_000_000,
        kind, text(link), device, is_gnu,
    )  # fmt: skip


def _check(block: bytes, checksum: bytes) -> None:
    """Raise BadLayer unless the checksum is right.

    A sum of signed bytes is accepted, too, because old programs wrote it.
    """
    try:
        expected = number(checksum)
    except BadLayer:
        expected = -1
    total = sum(block) - sum(checksum) + 8 * 0x20
    if expected != total:
        rest = block[:148] + block[156:]
        if expected != total - 256 * sum(byte > 127 for byte in rest):
            raise BadLayer("this is no tar archive, or it is damaged")


def text(field: bytes) -> bytes:
    """Return a field's bytes up to the first NUL."""
    return field.partition(b"\0")[0]


def number(field: bytes) -> int:
    """Return a number in octal digits, or in GNU's base 256 (also a negative number). Raises BadLayer."""
    if field[0] & 0x80:
        bits = 8 * len(field)
        found = int.from_bytes(field, "big") & ~(1 << bits - 1)
        return found - (1 << bits - 1) if field[0] & 0x40 else found
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise BadLayer("a number in a header is malformed")
    return int(digits, 8)


def parse_pax(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the records of a pax header in their order. Raises BadLayer."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(content):
        blank = content.find(b" ", at, at + 20)
        digits = content[at:blank]
        if blank < 0 or not digits.isdigit():
            raise _malformed()
        end = at + int(digits)
        # A record must end after its blank, so `at` always grows.
        if end > len(content) or end <= blank + 1 or content[end - 1] != 0x0A:
            raise _malformed()
        key, equals, value = content[blank + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise _malformed()
        found.append((key, value))
        at = end
    return found


def pax_number(value: bytes) -> int:
    """Return the non-negative whole number of a pax record. Raises BadLayer."""
    if not value.isdigit() or len(value) > 19:
        raise _malformed()
    return int(value)


def pax_nanoseconds(value: bytes) -> int:
    """Return a time of a pax record, such as b"-1.25", in nanoseconds since 1970. Raises BadLayer."""
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19 or (fraction and not fraction.isdigit()):
        raise _malformed()
    nanoseconds = min(int(digits), _LATEST_SECONDS) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
    return -nanoseconds if whole.startswith(b"-") else nanoseconds


def _malformed() -> BadLayer:
    return BadLayer("a pax header is malformed")
