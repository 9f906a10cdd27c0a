"""A local UDP port, and the flows of its clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from hatchway.errors import HatchwayError
from hatchway.forward import datagrams
from hatchway.forward.forwarder import Forwarder, LocalForward
from hatchway.forward.localports import PlannedForward
from hatchway.route.contract import ByteRoute, TargetUnreached, Unreached
from hatchway.target import Target

DNS = PlannedForward(Target("services", "dns", "shop", port="53"), 53, "dns", 0, False, "UDP")


class Link:
    """A link that answers each datagram with two copies of it."""

    def __init__(self, receive: Callable[[bytes], None], ended: Callable[[TargetUnreached | None], None]) -> None:
        self.receive = receive
        self.ended = ended
        self.closed = False

    def send(self, data: bytes) -> None:
        self.receive(data * 2)

    def close(self) -> None:
        self.closed = True


class FakeRoute:
    """A route whose connections are `Link`s. problem: the error of opening a link; None if links can be opened."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.problem: TargetUnreached | None = None

    async def connect_datagrams(self, target: Target, receive: Any, ended: Any) -> Link:
        await asyncio.sleep(0)
        assert target == DNS.target
        if self.problem is not None:
            raise self.problem
        self.links.append(Link(receive, ended))
        return self.links[-1]


class Local(asyncio.DatagramProtocol):
    """A client of the local port."""

    def __init__(self) -> None:
        self.found: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.found.put_nowait(data)

    async def ask(self, data: bytes) -> bytes:
        self.transport.sendto(data)
        return await asyncio.wait_for(self.found.get(), 30)


@contextlib.asynccontextmanager
async def _forwarding(route: FakeRoute, told: list[str]) -> AsyncIterator[tuple[LocalForward, Callable[[], Any]]]:
    forwarder = Forwarder(cast(ByteRoute, route), lambda forward, message, hint: told.append(message))
    clients: list[asyncio.BaseTransport] = []
    async with forwarder.listening([DNS], lambda one: "127.0.0.1") as (forward,):

        async def client() -> Local:
            where = "127.0.0.1", forward.listen.port
            transport, found = await asyncio.get_running_loop().create_datagram_endpoint(Local, remote_addr=where)
            clients.append(transport)
            return found

        yield forward, client
        for transport in clients:
            transport.close()


@pytest.fixture
def route() -> FakeRoute:
    return FakeRoute()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (no event reports this)
            await asyncio.sleep(0.005)


async def test_each_client_has_a_flow_of_its_own(route: FakeRoute) -> None:
    async with _forwarding(route, []) as (forward, client):
        one, two = await client(), await client()
        assert [await one.ask(b"a"), await two.ask(b"b"), await one.ask(b"c")] == [b"aa", b"bb", b"cc"]
        assert len(route.links) == len(forward.connections) == forward.total == 2
        assert (forward.sent, forward.received) == (3, 6)
    assert all(link.closed for link in route.links)


async def test_parallel_datagrams_begin_one_flow_and_a_flood_is_limited(route: FakeRoute) -> None:
    async with _forwarding(route, []) as (_, client):
        one = await client()
        for number in range(10):
            one.transport.sendto(b"%d" % number)
        answers = [await asyncio.wait_for(one.found.get(), 30) for _ in range(10)]
        assert answers == [b"%d%d" % (number, number) for number in range(10)]
        assert len(route.links) == 1


async def test_a_new_client_replaces_the_client_that_was_silent_for_longest(
    route: FakeRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "MOST_FLOWS", 2)
    async with _forwarding(route, []) as (forward, client):
        one, two, three = await client(), await client(), await client()
        for local in (one, two, one, three):
            await local.ask(b"x")
        assert [link.closed for link in route.links] == [False, True, False]
        assert len(forward.connections) == 2
        assert await two.ask(b"y") == b"yy"


async def test_a_silent_flow_is_ended(route: FakeRoute, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "_SWEEP_SECONDS", 0.01)
    async with _forwarding(route, []) as (forward, client):
        one = await client()
        await one.ask(b"x")
        assert len(forward.connections) == 1
        monkeypatch.setattr(datagrams, "IDLE_SECONDS", 0.0)
        await _until(lambda: not forward.connections)
        assert route.links[0].closed
        assert (forward.total, forward.sent, forward.received) == (1, 1, 2)


async def test_the_next_datagram_after_the_end_of_a_flow_begins_a_new_flow(route: FakeRoute) -> None:
    told: list[str] = []
    async with _forwarding(route, told) as (forward, client):
        one = await client()
        await one.ask(b"x")
        route.links[0].ended(TargetUnreached(Unreached.FAILED, "the relay pod has ended"))
        assert forward.problem == "the relay pod has ended" and told == ["the relay pod has ended"]
        assert not forward.connections
        assert await one.ask(b"y") == b"yy"
        assert forward.problem == "" and len(route.links) == 2


async def test_a_failure_to_connect_is_reported_and_retried(route: FakeRoute) -> None:
    told: list[str] = []
    route.problem = TargetUnreached(Unreached.AWAY, "the API server is away")
    async with _forwarding(route, told) as (forward, client):
        one = await client()
        one.transport.sendto(b"x")
        await _until(lambda: forward.failed)
        assert told == ["the API server is away"] and not forward.connections
        route.problem = None
        assert await one.ask(b"y") == b"yy"


async def test_a_unix_socket_carries_no_datagrams(route: FakeRoute) -> None:
    forwarder = Forwarder(cast(ByteRoute, route), lambda forward, message, hint: None)
    with pytest.raises(HatchwayError, match="TCP only"):
        async with forwarder.listening([DNS], lambda one: "", lambda one: "/nowhere"):
            pass
