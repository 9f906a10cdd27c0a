"""What a routing function keeps of a head is there when the same bytes come again, and for no others."""

from __future__ import annotations

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


async def test_the_same_bytes_on_the_same_connection(world: World) -> None:
    def route(head: RequestHead) -> Respond:
        known, head.memo.value = head.memo.value, (head.method, head.target, head.http_version, head.headers[:])
        if known is not None:
            assert known == head.memo.value
        return Respond(200, [], b"again" if known is not None else b"new")

    server = await world.serve(route)
    client, second = await world.client(server), await world.client(server)
    assert [(await client.ask(A)).body for _ in range(3)] == [b"new", b"again", b"again"]
    assert (await second.ask(A)).body == b"new"
    for other in OTHERS:
        assert [(await client.ask(head)).body for head in (other, other, A)] == [b"new", b"again", b"new"]
    assert (await second.ask(A)).body == b"again"
