"""Upgrades: bytes are spliced after a 101 and never before (CVE-2018-1002105)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest

from hatchway.proxy.context import Context
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import Decision, Forward, RequestHead, Respond
from hatchway.proxy.server import status_body
from hatchway.proxy.splice import splice
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.wire import GET, OK, Backend, Script, World, forward, refuse, until

ASK = b"GET /ws?a=b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nX-Key: 1\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Accept: 2\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def switching(talk: Talk, answer: bytes = SWITCH) -> Callable[[Backend], Script]:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(answer)
            await talk(reader, writer)

        return run

    return script


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_bytes_pass_both_ways_after_a_101(world: World) -> None:
    done: list[tuple[int, int, int]] = []
    backend = await world.backend(switching(echo, SWITCH + b"hello"))

    def route(head: RequestHead) -> Decision:
        assert head.upgrade == b"websocket"
        head.on_complete = lambda *found: done.append(found)
        return Forward(backend.upstream(), head.target, head.headers, refuse)

    server = await world.serve(route)
    client = await world.client(server)
    answer = await client.ask(ASK + b"early")
    assert answer.status == 101
    assert (answer.get(b"upgrade"), answer.get(b"connection"), answer.get(b"x-accept")) == (
        b"websocket",
        b"Upgrade",
        b"2",
    )
    assert await client.reader.readexactly(10) == b"helloearly"
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await client.reader.readexactly(18) == b"GET / HTTP/1.1\r\n\r\n"
    request = backend.requests[0]
    assert request.start == b"GET /ws?a=b HTTP/1.1"
    assert request.headers == [
        (b"host", b"a"),
        (b"x-key", b"1"),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
    ]
    client.cut()
    async with asyncio.timeout(10):
        await backend.ended.wait()
    await until(lambda: server.connections == 0)
    assert done == [(101, 23, 28)]


async def test_the_upstream_ends_and_its_last_bytes_arrive(world: World) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1_000_000)

    backend = await world.backend(switching(talk))
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert (await client.ask(ASK)).status == 101
    assert len(await client.rest()) == 1_000_000


async def test_the_client_ends_and_its_last_bytes_arrive(world: World) -> None:
    got = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            got.extend(data)

    backend = await world.backend(switching(talk))
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert (await client.ask(ASK)).status == 101
    client.send(b"x" * 1_000_000)
    client.writer.write_eof()
    assert await client.rest() == b""
    async with asyncio.timeout(10):
        await backend.ended.wait()
    assert len(got) == 1_000_000


@pytest.mark.parametrize("status", [200, 204, 302])
async def test_an_answer_below_400_is_an_error_and_ends_both(world: World, status: int) -> None:
    backend = await world.backend(switching(echo, b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status))
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(ASK + GET)
    answer = await client.response()
    assert (answer.status, answer.body) == (503, b"upgrade: invalid upgrade response: status code %d" % status)
    assert await client.rest() == b""
    async with asyncio.timeout(10):
        await backend.ended.wait()
    assert len(backend.requests) == 1


async def test_an_answer_of_400_and_more_is_relayed_and_ends_both(world: World) -> None:
    backend = await world.backend(switching(echo, b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"))
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(ASK + GET)
    answer = await client.response()
    assert (answer.status, answer.body, answer.get(b"connection")) == (403, b"no", b"close")
    assert await client.rest() == b""
    async with asyncio.timeout(10):
        await backend.ended.wait()


async def test_a_refused_upgrade_leaves_no_bytes_to_be_read_as_requests(world: World) -> None:
    client = await world.client(await world.serve(lambda head: Respond(401, [])))
    client.send(ASK + GET)
    assert (await client.response()).status == 401
    assert await client.rest() == b""


async def test_a_connection_that_carried_an_upgrade_is_never_pooled(world: World) -> None:
    backend = await world.answering(OK, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", OK)
    server = await world.serve(forward(backend.upstream()))
    client = await world.client(server)
    assert (await client.ask(GET)).status == 200
    assert (await (await world.client(server)).ask(ASK)).status == 403
    assert (await client.ask(GET)).status == 200
    assert backend.connections == 2


async def test_h2c_is_ignored(world: World) -> None:
    backend = await world.answering(OK)
    client = await world.client(await world.serve(forward(backend.upstream())))
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
    for _ in range(2):
        ask = b"POST / HTTP/1.1\r\nHost: a\r\n" + offer + b"Content-Length: 3\r\n\r\nabc"
        assert (await client.ask(ask)).body == b"ok"
    assert backend.requests[1].body == b"abc"
    assert [name for name, _ in backend.requests[1].headers] == [b"host", b"content-length"]


async def test_a_body_before_the_upgrade_arrives(world: World) -> None:
    backend = await world.backend(switching(echo))
    client = await world.client(await world.serve(forward(backend.upstream())))
    ask = ASK.replace(b"GET", b"POST").replace(b"X-Key: 1", b"Content-Length: 4")
    assert (await client.ask(ask + b"bodyearly")).status == 101
    assert await client.reader.readexactly(5) == b"early"
    assert backend.requests[0].body == b"body"


async def test_backpressure_holds_through_a_splice(world: World) -> None:
    sent = 0
    total = 64 * 1024 * 1024

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < total:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    backend = await world.backend(switching(talk))
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(ASK)
    assert b"101" in await client.reader.readuntil(b"\r\n\r\n")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    last, same = -1, 0
    while same < 20:
        await asyncio.sleep(0.01)
        same = same + 1 if sent == last else 0
        last = sent
    assert sent < total / 2
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await client.rest()) == total


async def test_tls_on_both_sides(world: World, authority: Authority, insecure: ssl.SSLContext) -> None:
    server_context = authority.server()
    backend = await world.backend(switching(echo), server_context)
    server = await world.serve(forward(backend.upstream(insecure)), ssl=server_context)
    client = await world.client(server, insecure)
    assert (await client.ask(ASK + b"early")).status == 101
    assert await client.reader.readexactly(5) == b"early"
    client.send(b"y" * 200_000)
    assert await client.reader.readexactly(200_000) == b"y" * 200_000
    client.cut()
    async with asyncio.timeout(10):
        await backend.ended.wait()


class _Draining(asyncio.Transport):
    """A transport with unsent data whose `abort` fails, like that of asyncio after the connection was lost."""

    def close(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 1

    def abort(self) -> None:
        raise AssertionError("aborted after it was lost")


async def test_a_side_that_is_closed_already_is_not_aborted() -> None:
    limits = Limits()
    context = Context(asyncio.get_running_loop(), lambda head: Respond(204, []), limits, Pool(limits), status_body)
    client, upstream = _Draining(), _Draining()
    ends: list[asyncio.Protocol] = []
    client.set_protocol = upstream.set_protocol = ends.append  # type: ignore[method-assign,assignment]
    client.is_closing = upstream.is_closing = lambda: False  # type: ignore[method-assign]
    done: list[tuple[int, int]] = []
    splice(context, lambda *found: done.append(found), client, upstream, 1, 2)
    ends[1].connection_lost(None)
    ends[0].connection_lost(None)
    await context.end_tasks()
    assert done == [(1, 2)]
