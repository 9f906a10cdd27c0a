"""Cached decisions for heads: used for the same bytes of the same client, bounded, and freed."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

import pytest

from hatchway.proxy import heads
from hatchway.proxy.cache import DECISIONS
from hatchway.proxy.routing import App, CachedDecision, Decision, Forward, RequestHead, Respond
from tests.integration.proxy.wire import World, refuse, until

A = b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer one\r\n\r\n"
OTHERS = [
    A.replace(b"/a", b"/b"),
    A.replace(b"GET", b"PUT"),
    A.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"),
    A.replace(b"one", b"two"),
    A.replace(b"Host", b"host"),
    A.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n"),
    A.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
]


class Again(CachedDecision):
    """A cached decision that answers "again". kept: the ids of all existing decisions."""

    def __init__(self, head: RequestHead, kept: set[int]) -> None:
        self._known = (head.method, head.target, head.http_version, head.headers[:])
        self._kept = kept
        kept.add(id(self))

    def __del__(self) -> None:
        self._kept.discard(id(self))

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision:
        head = make_head()
        assert (head.method, head.target, head.http_version, head.headers) == self._known
        return Respond(200, [], b"again")


def kept_by(kept: set[int]) -> Callable[[RequestHead], Decision]:
    """Return a routing function that answers "new" and caches an `Again`. kept: see `Again`."""

    def route(head: RequestHead) -> Respond:
        head.cached = Again(head, kept)
        return Respond(200, [], b"new")

    return route


async def test_the_same_bytes_of_the_same_client(world: World) -> None:
    server = await world.serve(kept_by(set()))
    client, second = await world.client(server), await world.client(server)
    assert [(await client.ask(A)).body for _ in range(3)] == [b"new", b"again", b"again"]
    assert (await second.ask(A)).body == b"again"
    for other in OTHERS:
        assert [(await client.ask(head)).body for head in (other, other, A)] == [b"new", b"again", b"again"]
    for piece in (A[:20], A[20:-1], A[-1:]):
        second.send(piece)
        await second.writer.drain()
    assert (await second.response()).body == b"again"


async def test_clients_do_not_share_cached_decisions(world: World) -> None:
    server = await world.serve(kept_by(set()))
    client, other = await world.client(server), await world.client(server, source="127.0.0.2")
    assert [(await client.ask(A)).body for _ in range(2)] == [b"new", b"again"]
    assert [(await other.ask(A)).body for _ in range(2)] == [b"new", b"again"]


async def test_listeners_do_not_share_cached_decisions(world: World) -> None:
    one, other = await world.serve(kept_by(set())), await world.serve(kept_by(set()))
    for server in (one, other):
        client = await world.client(server)
        assert [(await client.ask(A)).body for _ in range(2)] == [b"new", b"again"]


async def test_a_decision_of_an_asynchronous_routing_function_is_cached(world: World) -> None:
    async def route(head: RequestHead) -> Decision:
        return kept_by(set())(head)

    client = await world.client(await world.serve(route))
    assert [(await client.ask(A)).body for _ in range(2)] == [b"new", b"again"]


async def test_cached_decisions_are_bounded_by_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound applies to all connections of all listeners together, also after decisions were discarded."""
    kept: set[int] = set()
    before = len(DECISIONS), DECISIONS.size
    monkeypatch.setattr(DECISIONS, "limit", DECISIONS.size + 100 * DECISIONS.BASE)
    servers = [await world.serve(kept_by(kept)) for _ in range(2)]
    clients = [await world.client(servers[number % 2], source=f"127.0.0.{2 + number % 3}") for number in range(6)]
    filler = b"x" * 1000
    for number in range(40):
        for place, client in enumerate(clients):
            assert (await client.ask(A.replace(b"/a", b"/%d-%d-%b" % (place, number, filler)))).status == 200
            assert DECISIONS.size <= DECISIONS.limit
    assert len(kept) <= 100
    assert (await clients[0].ask(A.replace(b"/a", b"/" + b"a" * heads.KEPT))).status == 200
    for client in clients:
        client.writer.close()
    await until(lambda: not kept and not any(server.connections for server in servers))
    assert (len(DECISIONS), DECISIONS.size) == before


@pytest.mark.parametrize("status", [400, 401, 403, 404, 503])
async def test_a_refused_decision_is_not_cached(world: World, status: int) -> None:
    """The routing function, an application or an upstream refuses; an earlier cached decision is then discarded."""
    kept: set[int] = set()
    allowed = True
    before = DECISIONS.size
    backend = await world.answering(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
    upstream = backend.upstream()

    async def app(scope: object, receive: object, send: Callable[[object], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    class Changing(Again):
        def begin(self, make_head: Callable[[], RequestHead]) -> Decision:
            return decide(make_head())

    def decide(head: RequestHead) -> Decision:
        if allowed:
            return Respond(200, [])
        if head.path == b"/app":
            return App(app)  # type: ignore[arg-type]
        if head.path == b"/forward":
            return Forward(upstream, head.target, head.headers, refuse)
        return Respond(status, [])

    def route(head: RequestHead) -> Decision:
        head.cached = Changing(head, kept)
        return decide(head)

    server = await world.serve(route)
    client = await world.client(server)
    paths = [b"/respond", b"/app", b"/forward"]
    for allowed, expected in ((False, status), (True, 200), (False, status)):
        for path in paths:
            assert (await client.ask(A.replace(b"/a", path))).status == expected
        assert (DECISIONS.size > before) is allowed
    assert (await client.ask(A)).status == status
    assert not kept


async def test_nothing_waits_for_the_garbage_collector(world: World) -> None:
    """A decision that refers to its own head, like those of the door, is freed when its client disconnects."""
    kept: set[int] = set()
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    class Referring(Again):
        def __init__(self, head: RequestHead, forward: Forward) -> None:
            super().__init__(head, kept)
            self._head, self._forward = head, forward

        def begin(self, make_head: Callable[[], RequestHead]) -> Decision:
            return self._forward

    def route(head: RequestHead) -> Decision:
        found = Forward(backend.upstream(), head.target, head.headers, refuse)
        head.cached = Referring(head, found)
        return found

    gc.disable()
    try:
        server = await world.serve(route)
        client = await world.client(server)
        for _ in range(3):
            assert (await client.ask(A)).body == b"ok"
        assert len(kept) == 1
        client.writer.close()
        await until(lambda: not kept)
    finally:
        gc.enable()
