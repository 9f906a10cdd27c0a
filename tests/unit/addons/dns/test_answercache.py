"""The cache of answers from outside resolvers: what it stores, and for how long."""

from __future__ import annotations

import pytest
from dnslib import QTYPE, RCODE, RR, SOA, A, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.dns.answercache import LONGEST_SECONDS, AnswerCache
from hatchway.addons.dns.dnsquery import parse_query


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def question(name: str = "www.example.com", kind: str = "A") -> bytes:
    return bytes(DNSRecord.question(name, kind).pack())


def answer(query: bytes, ttl: int = 300, *, count: int = 1, rcode: str = "NOERROR", tc: int = 0) -> bytes:
    reply = DNSRecord.parse(query).reply()
    for number in range(count):
        reply.add_answer(RR(reply.q.qname, QTYPE.A, ttl=ttl + number, rdata=A(f"203.0.113.{number % 250}")))
    reply.header.rcode = getattr(RCODE, rcode)
    reply.header.tc = tc
    return bytes(reply.pack())


def find(cache: AnswerCache, query: bytes, *, tcp: bool = False) -> bytes | None:
    return cache.find(parse_query(query), query, tcp=tcp)


def keep(cache: AnswerCache, query: bytes, found: bytes, *, tcp: bool = False) -> None:
    cache.keep(parse_query(query), query, found, tcp=tcp)


def test_an_answer_is_cached_and_its_ttl_goes_down() -> None:
    clock = Clock()
    cache = AnswerCache(clock)
    first, second = question(), question("WWW.Example.com")
    keep(cache, first, answer(first, 20, count=2))
    clock.now += 5.5
    got = find(cache, second)
    assert got is not None
    assert got[:2] == second[:2]
    # The answer repeats the question in the client's own spelling.
    assert got[12 : len(second)] == second[12:]
    assert [rr.ttl for rr in DNSRecord.parse(got).rr] == [15, 16]
    clock.now += 20
    assert find(cache, second) is None


def test_no_answer_is_cached_for_long() -> None:
    clock = Clock()
    cache = AnswerCache(clock)
    query = question()
    keep(cache, query, answer(query, 86400))
    clock.now += LONGEST_SECONDS - 1
    assert find(cache, query) is not None
    clock.now += 1
    assert find(cache, query) is None


def test_another_type_or_transport_is_another_query() -> None:
    cache = AnswerCache(Clock())
    query = question()
    keep(cache, query, answer(query))
    assert find(cache, question(kind="AAAA")) is None
    assert find(cache, question("example.com")) is None
    assert find(cache, query, tcp=True) is None
    assert find(cache, query[:2] + b"\0" + query[3:]) is None, "without recursion"


def test_a_missing_name_is_cached_for_the_time_that_its_soa_record_gives() -> None:
    clock = Clock()
    cache = AnswerCache(clock)
    query = question()
    reply = DNSRecord.parse(query).reply()
    reply.header.rcode = RCODE.NXDOMAIN
    bare = bytes(reply.pack())
    keep(cache, query, bare)
    assert find(cache, query) is None, "RFC 2308: not without an SOA record"
    reply.add_auth(
        RR("example.com", QTYPE.SOA, ttl=10, rdata=SOA("ns.example.com", "root.example.com", (1, 2, 3, 4, 5)))
    )
    keep(cache, query, bytes(reply.pack()))
    clock.now += 9
    assert find(cache, query) is not None
    clock.now += 1
    assert find(cache, query) is None


@pytest.mark.parametrize(
    "found",
    [
        answer(question(), rcode="SERVFAIL"),
        answer(question(), tc=1),
        answer(question(), 0),
        answer(question(), count=300),
        answer(question("www.example.org")),
        answer(question())[:-1],
        answer(question())[:14],
        b"",
    ],
    ids=["failure", "truncated", "not to be kept", "long", "another question", "cut", "head", "nothing"],
)
def test_other_answers_are_not_cached(found: bytes) -> None:
    cache = AnswerCache(Clock())
    query = question()
    keep(cache, query, query[:2] + found[2:])
    assert find(cache, query) is None


@given(st.binary(max_size=120), st.integers(0, 80))
def test_the_cache_accepts_any_bytes(noise: bytes, at: int) -> None:
    cache = AnswerCache(Clock())
    query = question()
    good = answer(query, count=3)
    bad = good[:at] + noise + good[at + len(noise) :]
    keep(cache, query, bad)
    got = find(cache, query)
    assert got is None or len(got) == len(bad)


def test_the_oldest_answers_are_dropped() -> None:
    cache = AnswerCache(Clock())
    queries = [question(f"n{number}.example.com") for number in range(1100)]
    for query in queries:
        keep(cache, query, answer(query))
    assert find(cache, queries[0]) is None
    assert find(cache, queries[-1]) is not None
    assert sum(find(cache, query) is not None for query in queries) == 1024
