"""Upgrades that the engine accepts itself: it sends the decision's 101, then a protocol gets the transport."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import cast

import pytest

from hatchway.proxy.resets import ResetWatch
from hatchway.proxy.routing import AcceptUpgrade, Decision, Headers, RequestHead
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.wire import GET, World, until

ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FIELDS: Headers = [(b"Sec-WebSocket-Accept", b"yes"), (b"Connection", b"theirs"), (b"Content-Length", b"7")]


class Echo(asyncio.Protocol):
    """Sends received data back; records the calls of its methods. greeting: data that it sends first."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self.told: list[str] = []
        self.got = bytearray()
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.told.append("made")
        if self._greeting:
            self.transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.transport.write(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return False

    def pause_writing(self) -> None:
        self.told.append("full")

    def resume_writing(self) -> None:
        self.told.append("ready")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Accepting:
    """A routing function that accepts every upgrade.

    protocols: the protocols that it has made. done: the arguments of `on_complete` of each exchange.
    """

    def __init__(self, make: Callable[[], Echo] = Echo, headers: Headers = FIELDS) -> None:
        self._make = make
        self._headers = headers
        self.protocols: list[Echo] = []
        self.done: list[tuple[int, int, int]] = []

    def make(self) -> Echo:
        self.protocols.append(self._make())
        return self.protocols[-1]

    def __call__(self, head: RequestHead) -> Decision:
        head.on_complete = lambda *found: self.done.append(found)
        return AcceptUpgrade(b"websocket", self._headers, self.make)


async def test_the_101_has_the_decisions_fields_and_early_bytes_arrive(world: World) -> None:
    route = Accepting(lambda: Echo(b"hello"))
    server = await world.serve(route)
    client = await world.client(server)
    answer = await client.ask(ASK + b"early")
    assert answer.start == b"HTTP/1.1 101 Switching Protocols"
    assert sorted(answer.headers) == [
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", b"yes"),
        (b"upgrade", b"websocket"),
    ]
    assert await client.reader.readexactly(10) == b"helloearly"
    client.send(GET)
    assert await client.reader.readexactly(len(GET)) == GET
    client.writer.write_eof()
    assert await client.rest() == b""
    await until(lambda: server.connections == 0)
    (protocol,) = route.protocols
    assert (protocol.told, protocol.lost) == (["made", "eof"], [None])
    assert route.done == [(101, 5 + len(GET), 0)]


async def test_over_tls(world: World, authority: Authority) -> None:
    server = await world.serve(Accepting(), ssl=authority.server())
    client = await world.client(server, authority.client())
    assert (await client.ask(ASK + b"early")).status == 101
    assert await client.reader.readexactly(5) == b"early"
    data = b"x" * 1_000_000
    client.send(data)
    assert await client.reader.readexactly(len(data)) == data


async def test_a_client_that_does_not_read(world: World) -> None:
    """The protocol is told to pause, and to resume when the client reads; no data are lost."""
    size = 30_000_000
    route = Accepting(lambda: Echo(b"x" * size))
    client = await world.client(await world.serve(route))
    client.send(ASK)
    await until(lambda: bool(route.protocols) and "full" in route.protocols[0].told)
    assert (await client.response()).status == 101
    assert await client.reader.readexactly(size) == b"x" * size
    await until(lambda: route.protocols[0].told[-1] == "ready")


async def test_a_protocol_that_does_not_read(world: World) -> None:
    route = Accepting()
    client = await world.client(await world.serve(route))
    assert (await client.ask(ASK)).status == 101
    (protocol,) = route.protocols
    protocol.transport.pause_reading()
    data = b"x" * 20_000_000
    client.send(data)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(protocol.got) < len(data)
    protocol.transport.resume_reading()
    assert await client.reader.readexactly(len(data)) == data


@pytest.mark.parametrize("paused", [False, True])
async def test_a_client_that_resets(world: World, paused: bool) -> None:
    route = Accepting()
    server = await world.serve(route)
    watch = ResetWatch.of(asyncio.get_running_loop())
    client = await world.client(server)
    assert (await client.ask(ASK)).status == 101
    if paused:
        route.protocols[0].transport.pause_reading()
    client.send(b"last words")
    client.cut()
    await until(lambda: server.connections == 0)
    assert len(route.protocols[0].lost) == 1
    assert [status for status, _, _ in route.done] == [101]
    assert len(watch) == 0


async def test_a_client_that_disconnects_before_the_decision(world: World) -> None:
    """No protocol is made for a client that disconnects before the routing function has decided."""
    decide = asyncio.Event()
    asked = asyncio.Event()
    route = Accepting()

    async def later(head: RequestHead) -> Decision:
        asked.set()
        await decide.wait()
        return route(head)

    server = await world.serve(later)
    client = await world.client(server)
    client.send(ASK + b"early")
    await asked.wait()
    client.cut()
    await until(lambda: server.connections == 0)
    decide.set()
    await asyncio.sleep(0)
    assert not route.protocols


async def test_a_client_whose_loss_is_not_reported_yet(world: World) -> None:
    route = Accepting()

    def cut_first(head: RequestHead) -> Decision:
        (connection,) = server._context.connections
        connection.transport.abort()  # type: ignore[attr-defined]
        return route(head)

    server = await world.serve(cut_first)
    client = await world.client(server)
    client.send(ASK)
    await until(lambda: bool(route.done))
    assert (route.protocols, route.done) == ([], [(0, 0, 0)])


@pytest.mark.parametrize(
    "ask", [GET, ASK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nhi"), ASK.replace(b"websocket", b"h2c")]
)
async def test_a_request_that_is_not_an_upgrade_cannot_be_accepted_as_one(world: World, ask: bytes) -> None:
    route = Accepting()
    client = await world.client(await world.serve(route))
    assert (await client.ask(ask)).status == 500
    assert await client.rest() == b""
    assert not route.protocols


def _fails() -> Echo:
    raise ValueError("no protocol")


@pytest.mark.parametrize("route", [Accepting(_fails), Accepting(headers=[(b"X", b"1\r\nSet-Cookie: a=b")])])
async def test_a_decision_that_fails_is_an_error_of_the_server(world: World, route: Accepting) -> None:
    client = await world.client(await world.serve(route))
    answer = await client.ask(ASK)
    assert (answer.status, answer.get(b"set-cookie")) == (500, None)


class _Broken(Echo):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise ValueError("no connection")


async def test_a_protocol_that_fails_ends_its_connection_only(world: World) -> None:
    route = Accepting(_Broken)
    server = await world.serve(route)
    client = await world.client(server)
    client.send(ASK)
    await client.rest()
    await until(lambda: server.connections == 0)


async def test_the_server_ends_what_is_open(world: World) -> None:
    route = Accepting()
    server = await world.serve(route)
    client = await world.client(server)
    assert (await client.ask(ASK)).status == 101
    await server.close(0)
    await until(lambda: bool(route.protocols[0].lost))
    gc.collect()
    assert [status for status, _, _ in route.done] == [101]
