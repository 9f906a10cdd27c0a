"""Parses a DNS query (RFC 1035 section 4, RFC 6891). Pure, and strict, because any client may send these bytes.

A query is small: a header, one question without compression, and perhaps an OPT record. Names stay lists of labels, so
that a dot inside a label does not separate labels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct("!HHHHHH")
OPT = 41
_MINIMUM_PAYLOAD = 512


class BadDnsQuery(Exception):
    """The bytes are not a query that can be answered. rcode: the name of the response code for the refusal."""

    def __init__(self, rcode: str) -> None:
        super().__init__(rcode)
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class DnsQuery:
    """A query with one question.

    Attributes:
        id: the message id, which the answer repeats.
        recursion_desired: the bit RD.
        question: the labels as they were received; the answer repeats them byte for byte.
        name: the same labels in lower case.
        type: the number of the requested type (RFC 1035 section 3.2.2).
        qclass: the requested class; 1 is IN.
        payload: how many bytes the client can receive by UDP, at least 512.
        edns: the client's EDNS version; None without EDNS.
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
    """Return False for bytes shorter than a header, and for answers: two servers would answer each other forever."""
    return len(data) >= HEADER.size and not data[2] & 0x80


def parse_query(data: bytes) -> DnsQuery:
    """Parse a query. Raises BadDnsQuery.

    Args:
        data: the bytes of the message, at least a whole header (`deserves_answer`).
    """
    number, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if (flags >> 11) & 15:
        raise BadDnsQuery("NOTIMP")
    if questions != 1 or answers or authorities:
        raise BadDnsQuery("FORMERR")
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
                raise BadDnsQuery("FORMERR")
            if rtype == OPT:
                if edns is not None:
                    raise BadDnsQuery("FORMERR")
                payload, edns = max(size, _MINIMUM_PAYLOAD), (ttl >> 16) & 0xFF
    except (struct.error, IndexError) as error:
        raise BadDnsQuery("FORMERR") from error
    name = tuple(label.decode("latin-1").lower() for label in labels)
    return DnsQuery(number, bool(flags & 0x0100), labels, name, kind, qclass, payload, edns)


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
        # A length above 63 would be a pointer (compression), but there is nothing before a question to point to.
        if length > 63 or len(label) < length or total > 255:
            raise BadDnsQuery("FORMERR")
        labels.append(label)
        offset += length


def _skip_name(data: bytes, offset: int) -> int:
    while True:
        length = data[offset]
        if length >= 0xC0:
            return offset + 2
        if length > 63:
            raise BadDnsQuery("FORMERR")
        offset += 1 + length
        if not length:
            return offset
