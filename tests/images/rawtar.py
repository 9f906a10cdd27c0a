"""Tar archives byte by byte, for tests with headers that no program would write."""

from __future__ import annotations


def raw_header(name: bytes = b"file", *, size: bytes = b"0" * 11, kind: bytes = b"0", **fields: bytes) -> bytes:
    """Return a header with the given fields, unchecked."""
    block = bytearray(512)
    values = {"mode": b"0000644", "uid": b"0000000", "gid": b"0000000", "mtime": b"0" * 11, "link": b"", **fields}
    places = {"mode": 100, "uid": 108, "gid": 116, "mtime": 136, "link": 157}
    block[: len(name)] = name
    for field, value in values.items():
        block[places[field] : places[field] + len(value)] = value
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def special(kind: bytes, content: bytes) -> bytes:
    """Return a special header (pax or GNU's long names) with its content."""
    return raw_header(b"special", size=b"%011o" % len(content), kind=kind) + content + bytes(-len(content) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """Return a pax record."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


END = bytes(1024)


def old_sparse(pieces: list[tuple[int, int]], real: int, size: int, *, more: bool = False) -> bytes:
    block = bytearray(raw_header(b"f", size=b"%011o" % size, kind=b"S"))
    block[257:265] = b"ustar  \0"
    for at, (offset, length) in enumerate(pieces):
        block[386 + 24 * at : 410 + 24 * at] = b"%011o\0%011o\0" % (offset, length)
    block[482] = more
    block[483:495] = b"%011o\0" % real
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
