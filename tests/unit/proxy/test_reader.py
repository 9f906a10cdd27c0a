"""Parsing of requests into events, without a connection and an event loop, from any pieces of the bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.proxy.budget import HEADS
from hatchway.proxy.fields import BadMessage
from hatchway.proxy.heads import Request
from hatchway.proxy.limits import Limits
from hatchway.proxy.reader import BodyEnd, RequestReader

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
PUT = b"PUT /c HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello\r\n\r\nyou"
CHUNKED = b"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
EMPTY = b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
MEANT: dict[bytes, list[object]] = {
    GET: [("GET", b"/a?b")],
    b"\r\n\r\n" + GET: [("GET", b"/a?b")],
    PUT: [("PUT", b"/c"), b"hello\r\n\r\nyou", []],
    CHUNKED: [("POST", b"/d"), b"hello", [(b"X-T", b"1")]],
    EMPTY: [("POST", b"/e")],
}


def read(reader: RequestReader) -> list[object]:
    """Return all events that can be read, with the pieces of a body joined."""
    found: list[object] = []
    while (event := reader.next_event()) is not None:
        if isinstance(event, Request):
            found.append((event.method, event.target))
        elif isinstance(event, BodyEnd):
            found.append(event.trailers)
        elif found and isinstance(found[-1], bytes):
            found[-1] += event
        else:
            found.append(event)
    return found


def joined(events: list[object]) -> list[object]:
    out: list[object] = []
    for event in events:
        if isinstance(event, bytes) and out and isinstance(out[-1], bytes):
            out[-1] += event
        else:
            out.append(event)
    return out


@given(st.lists(st.sampled_from(list(MEANT)), min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=12))
def test_events_do_not_depend_on_the_pieces_of_the_bytes(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(messages)
    edges = [0, *sorted({cut % len(data) for cut in cuts}), len(data)]
    reader = RequestReader(Limits())
    found: list[object] = []
    for start, end in itertools.pairwise(edges):
        reader.receive(data[start:end])
        found += read(reader)
    assert joined(found) == [event for message in messages for event in MEANT[message]]
    assert not reader.buffer and not reader.in_body and not reader.in_head


def test_a_body_is_not_parsed_before_it_is_requested() -> None:
    reader = RequestReader(Limits())
    reader.receive(PUT + GET)
    assert isinstance(reader.next_event(), Request)
    assert reader.in_body and len(reader.buffer) == 12 + len(GET)
    assert reader.next_event() == b"hello\r\n\r\nyou"
    assert reader.in_body  # the end of the body is a separate event
    assert reader.next_event() == BodyEnd([])
    assert not reader.in_body and reader.buffer == GET


def test_request_objects_are_immutable() -> None:
    reader = RequestReader(Limits())
    reader.receive(GET)
    request = reader.next_event()
    with pytest.raises(AttributeError):
        request.target = b"/other"  # type: ignore[union-attr, misc]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"\x16\x03\x01", 400),
        (b"nonsense\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2000, 431),
    ],
)
def test_bytes_that_cannot_begin_a_request_are_refused_at_once(data: bytes, status: int) -> None:
    reader = RequestReader(Limits(head=1000))
    reader.receive(data)
    with pytest.raises(BadMessage) as error:
        reader.next_event()
    assert error.value.status == status
    reader.discard()
    assert reader.next_event() is None
    reader.receive(GET)
    assert reader.next_event() == GET and reader.in_body


def test_large_heads_are_counted_until_they_are_parsed() -> None:
    before = HEADS.taken
    reader = RequestReader(Limits())
    reader.receive(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000)
    assert reader.next_event() is None and reader.in_head
    assert HEADS.taken - before >= 60_000
    reader.receive(b"\r\n\r\n")
    request = reader.next_event()
    assert isinstance(request, Request) and request.head == b""  # a head of this size is not kept
    reader.share.release()
    assert HEADS.taken == before


def test_a_body_in_bulk() -> None:
    reader = RequestReader(Limits())
    reader.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    assert isinstance(reader.next_event(), Request)
    assert reader.bulk_left == 0  # a piece of the body is still buffered
    assert reader.next_event() == b"abc"
    assert reader.bulk_left == 7
    assert not reader.skip_bulk(3) and reader.next_event() is None
    assert reader.skip_bulk(4) and reader.next_event() == BodyEnd([])
    reader.receive(GET)
    assert isinstance(reader.next_event(), Request)
