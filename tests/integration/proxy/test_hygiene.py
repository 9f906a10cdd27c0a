"""Invalid HTTP/1.1 gets an error response at once, and does not reach the routing function."""

from __future__ import annotations

import json

import pytest

from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Decision, RequestHead, Respond
from hatchway.proxy.server import serve
from tests.integration.proxy.wire import GET, OK, World, forward

H = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 1, 1\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: +1\r\n\r\na", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 0x1\r\n\r\na", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 99999999999999999999\r\n\r\na", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 9223372036854775808\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b" X: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X: a\nY: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b": x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X(y): x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400),
        (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET / HTTP/1.1 \r\n" + H + b"\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET /a\x00 HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET a HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET ftp://a/ HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET http://a@b/ HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\n" + H + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / RTSP/1.0\r\n" + H + b"\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + H + b"\r\n", 505),
        (b"GET / HTTP/1.2\r\n" + H + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\n" + H + b"\r\n", 405),
        (b"GET / HTTP/1.1\r\n" + H + b"Expect: tea\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"x" * 1_100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 1_100_000, 431),
        (b"GET " + b"/%41" * 9_000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: " + b"a," * 2_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: impersonate-user\r\nImpersonate-User: low\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: keep-alive, Impersonate-Extra-A\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: close\r\nConnection: ORIGIN\r\nOrigin: null\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: authorization\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: upgrade,cookie\r\nUpgrade: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: host\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: x-remote-group\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Connection: sec-fetch-site\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"X: y\r\n" * 10_100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\na", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: \r\n\r\na", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \u0661\r\n\r\na".encode(), 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\na", 400),
        (b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 1_0\r\n\r\na", 400),
    ],
)
async def test_bad_requests_are_refused(world: World, request_bytes: bytes, status: int) -> None:
    seen: list[RequestHead] = []

    def route(head: RequestHead) -> Decision:
        seen.append(head)
        return Respond(200, [])

    client = await world.client(await world.serve(route))
    answer = await client.ask(request_bytes)
    assert (answer.status, answer.get(b"connection")) == (status, b"close")
    found = json.loads(answer.body)
    assert (found["kind"], found["code"]) == ("Status", status)
    assert await client.rest() == b""
    assert seen == []


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"-1\r\na",
        b"0x1\r\na",
        b"1 1\r\na",
        b"1\na\r\n0\r\n\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"\r\n",
        b"10000000000000000\r\n",
        b"1;" + b"x" * 5000,
        b"0\r\nX: y\n\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: " + b"x" * 70000,
    ],
)
async def test_bad_chunks_are_refused(world: World, body: bytes) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n" + body)
    assert answer.status in (400, 431)
    assert await client.rest() == b""
    assert backend.requests == []


async def test_a_request_inside_a_body_is_not_read_as_a_request(world: World) -> None:
    """The library llhttp alone would miss the end of the body of a GET, or of a request with an `Upgrade` field."""
    seen: list[bytes] = []

    def route(head: RequestHead) -> Decision:
        seen.append(head.path)
        return Respond(200, [])

    client = await world.client(await world.serve(route))
    inner = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
    for extra in (
        b"",
        b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
        b"Upgrade: x\r\n",
    ):
        head = b"GET /outer HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (extra, len(inner))
        assert (await client.ask(head + inner)).status == 200
    assert seen == [b"/outer"] * 3


async def test_empty_lines_before_a_request_are_skipped(world: World) -> None:
    client = await world.client(await world.serve(lambda head: Respond(204, [])))
    assert (await client.ask(b"\r\n\r\n" + GET)).status == 204


async def test_a_slow_head_times_out(world: World) -> None:
    client = await world.client(await world.serve(lambda head: Respond(204, []), limits=Limits(head_timeout=0.05)))
    assert (await client.ask(b"GET / HT")).status == 408
    assert await client.rest() == b""


async def test_a_silent_connection_is_closed(world: World) -> None:
    limits = Limits(head_timeout=0.05, idle_timeout=0.05)
    server = await world.serve(lambda head: Respond(204, []), limits=limits)
    silent = await world.client(server)
    assert await silent.rest() == b""
    idle = await world.client(server)
    assert (await idle.ask(GET)).status == 204
    assert await idle.rest() == b""


async def test_an_unread_body_is_discarded_up_to_a_limit(world: World) -> None:
    server = await world.serve(lambda head: Respond(403, []), limits=Limits(drain=1000))
    client = await world.client(server)
    small = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n"
    assert (await client.ask(small + b"x" * 900)).status == 403
    assert (await client.ask(small)).status == 403
    client.send(b"x" * 900)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 2000)
    assert (await client.response()).status == 403
    assert await client.rest() == b""


async def test_a_listener_can_set_the_text_of_its_errors(world: World) -> None:
    def word(status: int, message: str) -> Respond:
        return Respond(status, [(b"X-Mine", b"1")], b"mine")

    server = await world.serve(lambda head: 1 / 0, error_body=word)  # type: ignore[arg-type,return-value]
    client = await world.client(server)
    answer = await client.ask(GET)
    assert (answer.status, answer.body, answer.get(b"x-mine")) == (500, b"mine", b"1")
    assert (await client.ask(GET)).status == 500


async def test_a_listener_needs_host_and_port_or_a_socket() -> None:
    with pytest.raises(ValueError, match="host and port"):
        await serve(lambda head: Respond(204, []))
