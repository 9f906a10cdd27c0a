"""The results of a connection do not depend on the chunks in which its bytes arrive."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.proxy.clientconnection import ClientConnection, Phase
from hatchway.proxy.context import Context
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import Decision, Forward, ProxyError, RequestHead, Respond, Upstream
from hatchway.proxy.server import status_body
from hatchway.proxy.upstream import UpstreamConnection


class Wire:
    """A transport that records the written data."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, pieces: list[bytes]) -> None:
        self.written += b"".join(pieces)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> Any:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    abort = write_eof = close


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % len(data) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


REQUESTS = [
    b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET /b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello\r\n\r\nyou",
    b"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;e=f\r\nhello\r\n00b\r\n, you there\r\n0\r\nX-T: 1\r\n\r\n",
    b"POST /e HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nGET ",
    b"HEAD /f HTTP/1.1\r\nHost: a\r\n\r\n",
]
BROKEN = [
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
]


def _client(context: Context) -> tuple[ClientConnection, Wire]:
    connection, wire = ClientConnection(context, False), Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    return connection, wire


def _requests(loop: asyncio.AbstractEventLoop, data: list[bytes]) -> tuple[list[Any], bytes, bool]:
    """Feed chunks to a client's connection; return its requests, the bytes of its responses, and whether it is closed.

    A request has its method, target, fields, status and the size of its body.
    """
    seen: list[Any] = []

    def route(head: RequestHead) -> Decision:
        note = [head.method, head.target, list(head.headers)]
        head.on_complete = lambda status, up, down: seen.append((*note, status, up))
        return Respond(200, [], head.path)

    pool = Pool(Limits())
    context = Context(loop, route, Limits(), pool, status_body)
    context.date = b"Date: x\r\n"
    connection, wire = _client(context)
    for piece in data:
        connection.data_received(piece)
    loop.run_until_complete(context.end_tasks())
    return seen, bytes(wire.written), connection.phase is Phase.LINGERING or wire.closed


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4),
    st.sampled_from([None, *BROKEN]),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_requests(requests: list[bytes], broken: bytes | None, cuts: list[int]) -> None:
    data = b"".join(requests) + (broken or b"")
    loop = asyncio.new_event_loop()
    try:
        whole = _requests(loop, [data])
        cut = _requests(loop, pieces(data, cuts))
    finally:
        loop.close()

    # The size of a body is left out: if the response came before its end, the size depends on the chunks.
    def plain(result: Any) -> Any:
        return [entry[:4] for entry in result[0]], _messages(result[1]), result[2]

    assert plain(whole) == plain(cut)
    assert len([entry for entry in whole[0] if entry[3] == 200]) >= len(requests)


def _messages(data: bytes) -> list[Any]:
    """Return responses without the texts of errors: if there are several errors, the text may name any of them."""
    found: list[Any] = []
    for part in data.split(b"HTTP/1.1 ")[1:]:
        head, _, body = part.partition(b"\r\n\r\n")
        if body.startswith(b"{"):
            found.append((json.loads(body)["code"], b"close" in head))
        else:
            found.append((head, body))
    return found


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello\r\n\r\nyou", b"hello\r\n\r\nyou"),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5;x\r\n, you\r\n0\r\nT: 1\r\n\r\n",
        b"hello, you",
    ),
    (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(RESPONSES), st.lists(st.integers(0, 10_000), max_size=12))
def test_responses(response: tuple[bytes, bytes], cuts: list[int]) -> None:
    data, body = response
    loop = asyncio.new_event_loop()
    pool = Pool(Limits())

    async def connect() -> Any:
        raise AssertionError("the engine must use the pooled connection")

    upstream = Upstream("key", connect)

    def refuse(error: ProxyError) -> Respond:
        raise AssertionError(error.message)

    context = Context(
        loop, lambda head: Forward(upstream, head.target, head.headers, refuse), Limits(), pool, status_body
    )
    try:
        client, down = _client(context)
        connection, up = UpstreamConnection(pool, "key", None), Wire()  # type: ignore[arg-type]
        connection.connection_made(up)  # type: ignore[arg-type]
        pool.put(connection)
        client.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(pool) == 0
        for piece in pieces(data, cuts):
            connection.data_received(piece)
    finally:
        loop.run_until_complete(context.end_tasks())
        loop.close()
    assert len(pool) == 1
    head, _, rest = bytes(down.written).rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    if b"chunked" in head:
        found = b""
        while size := int((split := rest.partition(b"\r\n"))[0], 16):
            found += split[2][:size]
            rest = split[2][size + 2 :]
        assert split[2] == b"T: 1\r\n\r\n"
        rest = found
    assert rest == body


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_requests_are_refused_byte_by_byte(broken: bytes) -> None:
    loop = asyncio.new_event_loop()
    try:
        _, written, ended = _requests(loop, [bytes([byte]) for byte in broken])
    finally:
        loop.close()
    assert ended
    assert b"HTTP/1.1 400 " in written or b"HTTP/1.1 200 " in written
