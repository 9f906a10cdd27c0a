"""What a routing function keeps of a head is there when the same client sends the same bytes again, and for no others."""

from __future__ import annotations

from hatchway.proxy.heads import KnownHeads
from hatchway.proxy.routing import RequestHead, Respond
from tests.integration.proxy.wire import World

A = b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer one\r\n\r\n"
OTHERS = [
    A.replace(b"/a", b"/b"),
    A.replace(b"GET", b"PUT"),
    A.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"),
    A.replace(b"one", b"two"),
    A.replace(b"Host", b"host"),
    A.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n"),
]


async def test_the_same_bytes_of_the_same_client(world: World) -> None:
    def route(head: RequestHead) -> Respond:
        known, head.memo.value = head.memo.value, (head.method, head.target, head.http_version, head.headers[:])
        if known is not None:
            assert known == head.memo.value
        return Respond(200, [], b"again" if known is not None else b"new")

    server = await world.serve(route)
    client, second = await world.client(server), await world.client(server)
    assert [(await client.ask(A)).body for _ in range(3)] == [b"new", b"again", b"again"]
    assert (await second.ask(A)).body == b"again"
    for other in OTHERS:
        assert [(await client.ask(head)).body for head in (other, other, A)] == [b"new", b"again", b"again"]
    for piece in (A[:20], A[20:-1], A[-1:]):
        second.send(piece)
        await second.writer.drain()
    assert (await second.response()).body == b"again"


async def test_another_client_does_not_share_it(world: World) -> None:
    def route(head: RequestHead) -> Respond:
        known, head.memo.value = head.memo.value, True
        return Respond(200, [], b"again" if known else b"new")

    server = await world.serve(route)
    client, other = await world.client(server), await world.client(server, source="127.0.0.2")
    assert [(await client.ask(A)).body for _ in range(2)] == [b"new", b"again"]
    assert [(await other.ask(A)).body for _ in range(2)] == [b"new", b"again"]


async def test_what_is_kept_is_bounded(world: World) -> None:
    kept: set[int] = set()

    def route(head: RequestHead) -> Respond:
        note = _Note(kept)
        head.memo.value = note
        return Respond(200, [], b"%d" % len(kept))

    client = await world.client(await world.serve(route))
    for number in range(2 * KnownHeads.LIMIT):
        assert (await client.ask(A.replace(b"/a", b"/%d" % number))).status == 200
        assert len(kept) <= KnownHeads.LIMIT + 1
    assert (await client.ask(A.replace(b"/a", b"/" + b"a" * KnownHeads.SIZE))).status == 200


class _Note:
    def __init__(self, kept: set[int]) -> None:
        self._kept = kept
        kept.add(id(self))

    def __del__(self) -> None:
        self._kept.discard(id(self))
