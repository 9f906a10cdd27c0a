"""Caches answers of resolvers outside the cluster for a short time. Pure, except for the clock.

An answer is stored as bytes, with the positions of its TTLs, which are lowered by the answer's age. Answers come from
outside and may be malformed: a malformed answer is passed on, but not cached.
"""

from __future__ import annotations

import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hatchway.addons.dns.dnsquery import HEADER, OPT, DnsQuery

# As in CoreDNS (`cache 30`).
LONGEST_SECONDS = 30
_ENTRIES, _BYTES = 1024, 4096
_RECORDS = 256
_TRUNCATED, _NOERROR, _NXDOMAIN = 0x0200, 0, 3
_RECORD = struct.Struct("!HHIH")
_Key = tuple[bool, bytes, tuple[str, ...], bytes]


@dataclass(frozen=True, slots=True)
class _KeptAnswer:
    answer: bytes
    stored: float
    expires: float
    ttls: tuple[int, ...]


class AnswerCache:
    """Answers by query. clock: returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[_Key, _KeptAnswer] = OrderedDict()

    def find(self, query: DnsQuery, data: bytes, *, tcp: bool) -> bytes | None:
        """Return the cached answer to a query, or None.

        The answer gets the query's id, and the query's spelling of the name (upper and lower case).

        query: the parsed form of `data`.
        """
        key, name = _key(query, data, tcp), _name_end(query)
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._clock()
        if now >= kept.expires:
            del self._kept[key]
            return None
        answer = bytearray(kept.answer)
        answer[:2] = data[:2]
        answer[HEADER.size : name] = data[HEADER.size : name]
        age = int(now - kept.stored)
        for at in kept.ttls:
            (ttl,) = struct.unpack_from("!I", answer, at)
            struct.pack_into("!I", answer, at, max(0, ttl - age))
        return bytes(answer)

    def keep(self, query: DnsQuery, data: bytes, answer: bytes, *, tcp: bool) -> None:
        """Cache an answer, unless it is a failure, truncated, long, malformed or empty, or has a TTL of 0."""
        end = _name_end(query)
        if len(answer) > _BYTES or answer[HEADER.size : end + 4].lower() != data[HEADER.size : end + 4].lower():
            return
        found = _ttl_positions(answer, end)
        if not found:
            return
        seconds = min(LONGEST_SECONDS, *(struct.unpack_from("!I", answer, at)[0] for at in found))
        if seconds <= 0:
            return
        now = self._clock()
        self._kept[_key(query, data, tcp)] = _KeptAnswer(answer, now, now + seconds, found)
        if len(self._kept) > _ENTRIES:
            self._kept.popitem(last=False)


def _name_end(query: DnsQuery) -> int:
    """Return the offset after the name in the question."""
    return HEADER.size + sum(len(label) + 1 for label in query.question) + 1


def _key(query: DnsQuery, data: bytes, tcp: bool) -> _Key:
    # The whole query except its id: flags, counts, the name, and the bytes after the name (type, class, EDNS).
    return tcp, data[2 : HEADER.size], query.name, data[_name_end(query) :]


def _ttl_positions(answer: bytes, name_end: int) -> tuple[int, ...]:
    """Return the offsets of the TTLs of all records; () when the answer must not be cached."""
    try:
        _, flags, questions, *counts = HEADER.unpack_from(answer)
        if flags & _TRUNCATED or flags & 15 not in (_NOERROR, _NXDOMAIN) or questions != 1 or sum(counts) > _RECORDS:
            return ()
        at, found = name_end + 4, []
        for _ in range(sum(counts)):
            at = _skip_name(answer, at)
            kind, _, _, length = _RECORD.unpack_from(answer, at)
            if kind != OPT:
                found.append(at + 4)
            at += _RECORD.size + length
    except (struct.error, IndexError):
        return ()
    return tuple(found) if at <= len(answer) else ()


def _skip_name(data: bytes, at: int) -> int:
    while True:
        length = data[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
