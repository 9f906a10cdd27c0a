"""Reading a DNS query (RFC 1035 section 4, RFC 6891). Pure, and strict: these bytes come from anybody.

Own code, since a query is little: a header, one question without compression, and perhaps an OPT record. Names stay
lists of labels, so that a dot inside a label is no separator.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct("!HHHHHH")
OPT = 41
_MINIMUM_PAYLOAD = 512


class BadQuery(Exception):
    """No query that can be answered: `rcode` is the code to refuse it with."""

    def __init__(self, rcode: str) -> None:
        super().__init__(rcode)
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    question: the labels as they came, for the answer repeats them to the letter; name: the same in lower case.
    payload: bytes that the asker can take by UDP. edns: its EDNS version; None without EDNS.
    """

    id: int
    recursion_desired: bool
    question: tuple[bytes, ...]
    name: tuple[str, ...]
    type: int
    qclass: int
    payload: int = _MINIMUM_PAYLOAD
    edns: int | None = None


def deserves_answer(data: bytes) -> bool:
    """Not what is shorter than a header, nor what is itself an answer (two servers would talk for ever)."""
    return len(data) >= HEADER.size and not data[2] & 0x80


def parse_query(data: bytes) -> Query:
    """Raises BadQuery."""
    number, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if (flags >> 11) & 15:
        raise BadQuery("NOTIMP")
    if questions != 1 or answers or authorities:
        raise BadQuery("FORMERR")
    try:
        labels, offset = _name(data, HEADER.size)
        kind, qclass = struct.unpack_from("!HH", data, offset)
        offset += 4
        payload, edns = _MINIMUM_PAYLOAD, None
        for _ in range(additionals):
            offset = _skip_name(data, offset)
            rtype, size, ttl, length = struct.unpack_from("!HHIH", data, offset)
            offset += 10 + length
            if offset > len(data):
                raise BadQuery("FORMERR")
            if rtype == OPT:
                if edns is not None:
                    raise BadQuery("FORMERR")
                payload, edns = max(size, _MINIMUM_PAYLOAD), (ttl >> 16) & 0xFF
    except (struct.error, IndexError) as error:
        raise BadQuery("FORMERR") from error
    name = tuple(label.decode("latin-1").lower() for label in labels)
    return Query(number, bool(flags & 0x0100), labels, name, kind, qclass, payload, edns)


def _name(data: bytes, offset: int) -> tuple[tuple[bytes, ...], int]:
    labels: list[bytes] = []
    total = 1
    while True:
        length = data[offset]
        offset += 1
        if not length:
            return tuple(labels), offset
        label = bytes(data[offset : offset + length])
        total += length + 1
        # 64 and above would be a pointer, and nothing stands before a question that it could point to.
        if length > 63 or len(label) < length or total > 255:
            raise BadQuery("FORMERR")
        labels.append(label)
        offset += length


def _skip_name(data: bytes, offset: int) -> int:
    while True:
        length = data[offset]
        if length >= 0xC0:
            return offset + 2
        if length > 63:
            raise BadQuery("FORMERR")
        offset += 1 + length
        if not length:
            return offset
