"""The ASGI bridge, and immediate responses."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from hatchway.proxy.asgi import WRITE_NOW
from hatchway.proxy.routing import App, ASGIApp, Decision, RequestHead, Respond, RoutingFunction
from tests.integration.proxy.wire import GET, World, until


def to(app: Any) -> RoutingFunction:
    application: ASGIApp = app
    return lambda head: App(application)


async def read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def respond(send: Any, body: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def test_scope(world: World) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await respond(send, b"")

    def route(head: RequestHead) -> Decision:
        head.state["user"] = "jane"
        return App(app)

    server = await world.serve(route)
    client = await world.client(server)
    await client.ask(b"GET /a%2Fb%20c/%C3%A9?x=%20 HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nx-two: 2\r\n\r\n")
    scope = scopes[0]
    assert (scope["type"], scope["method"], scope["scheme"], scope["http_version"]) == ("http", "GET", "http", "1.1")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a/b c/é", b"/a%2Fb%20c/%C3%A9", b"x=%20")
    assert scope["headers"] == [(b"host", b"a"), (b"x-two", b"1"), (b"x-two", b"2")]
    assert scope["state"] == {"user": "jane"}
    assert scope["server"] == ("127.0.0.1", server.port)
    assert scope["client"][0] == "127.0.0.1"
    assert list(scope["extensions"]) == [WRITE_NOW]


@pytest.mark.parametrize(
    "sent",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"],
)
async def test_bodies_both_ways(world: World, sent: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, (await read(receive)).upper())

    client = await world.client(await world.serve(to(app)))
    for _ in range(2):
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\n" + sent)
        assert (answer.body, answer.get(b"content-length")) == (b"HELLO", b"5")


async def test_immediate_writes_keep_their_order_and_are_refused_when_the_client_is_full(world: World) -> None:
    expected = bytearray()
    refused = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        write_now = scope["extensions"][WRITE_NOW]
        assert not write_now(b"before the head")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert not write_now(b"before the body")
        for number in range(1000):
            piece = b"%d " % number * 5000
            expected.extend(piece)
            if not write_now(piece):
                refused.set()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})
        assert not write_now(b"after the end")

    client = await world.client(await world.serve(to(app)))
    client.send(GET)
    await asyncio.wait_for(refused.wait(), 20)
    answer = await client.response()
    assert answer.body == bytes(expected) + b"end"


async def test_no_immediate_write_in_the_answer_to_a_head_request(world: World) -> None:
    tried: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        tried.append(scope["extensions"][WRITE_NOW](b"piece"))
        await send({"type": "http.response.body", "body": b""})

    client = await world.client(await world.serve(to(app)))
    await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")
    assert tried == [False]
    assert (await client.ask(GET)).body == b"piece"


async def test_streaming_is_chunked_and_not_delayed(world: World) -> None:
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    client = await world.client(await world.serve(to(app)))
    client.send(GET)
    assert (await client.reader.readuntil(b"one\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    gate.set()
    assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_head_has_a_length_and_no_body(world: World) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello", headers=[(b"content-length", b"5")])

    client = await world.client(await world.serve(to(app)))
    answer = await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET, "HEAD")
    assert answer.get(b"content-length") == b"5"
    assert (await client.response()).body == b"hello"


async def test_expect_is_answered_when_the_application_reads(world: World) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, await read(receive) if scope["path"] == "/read" else b"no")

    client = await world.client(await world.serve(to(app)))
    client.send(b"POST /read HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.ask(b"hi")).body == b"hi"
    answer = await client.ask(b"POST /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (answer.body, answer.get(b"connection"), answer.interim) == (b"no", b"close", [])


async def test_failures_are_a_500_or_a_closed_connection(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        if scope["path"] != "/nothing":
            raise RuntimeError("broken")

    caplog.set_level(logging.CRITICAL, logger="hatchway.proxy")
    client = await world.client(await world.serve(to(app)))
    assert (await client.ask(GET)).status == 500
    assert (await client.ask(GET.replace(b"/ ", b"/nothing "))).status == 500
    client.send(GET.replace(b"/ ", b"/late "))
    assert (await client.rest()).endswith(b"1\r\nx\r\n")


@pytest.mark.parametrize("body", [b"toolong", b"s"])
async def test_a_body_that_differs_from_its_content_length_is_not_relayed_as_complete(
    world: World, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, body, headers=[(b"content-length", b"4")])

    caplog.set_level(logging.CRITICAL, logger="hatchway.proxy")
    client = await world.client(await world.serve(to(app)))
    client.send(GET)
    assert not (await client.rest()).endswith(body)


async def test_the_application_learns_that_the_client_has_gone(world: World) -> None:
    seen: list[Any] = []
    done: list[tuple[int, int, int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await receive()
        seen.append((await receive())["type"])
        try:
            await send({"type": "http.response.body", "body": b"y", "more_body": True})
        except OSError:
            seen.append("OSError")
            raise

    def route(head: RequestHead) -> Decision:
        head.on_complete = lambda *found: done.append(found)
        return App(app)

    client = await world.client(await world.serve(route))
    client.send(GET)
    await client.reader.readuntil(b"x\r\n")
    client.cut()
    await until(lambda: len(seen) == 2)
    assert seen == ["http.disconnect", "OSError"]
    assert done == [(200, 0, 1)]


async def test_send_waits_for_a_slow_client(world: World) -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    client = await world.client(await world.serve(to(app)))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET)
    last, same = -1, 0
    while same < 20:
        await asyncio.sleep(0.01)
        same = same + 1 if sent == last and sent else 0
        last = sent
    assert sent < 500
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len((await client.response()).body) == 65536 * 1000


async def test_receive_pauses_a_fast_client(world: World) -> None:
    total = 64 * 1024 * 1024
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        await respond(send, b"%d" % size)

    client = await world.client(await world.serve(to(app)))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
    sent = 0

    async def pump() -> None:
        nonlocal sent
        while sent < total:
            client.send(b"x" * 65536)
            sent += 65536
            await client.writer.drain()

    task = asyncio.create_task(pump())
    last, same = -1, 0
    while same < 20:
        await asyncio.sleep(0.01)
        same = same + 1 if sent == last and sent else 0
        last = sent
    assert sent < total / 2
    gate.set()
    assert (await client.response()).body == b"%d" % total
    await task


async def test_closing_cancels_an_application(world: World) -> None:
    cancelled: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    server = await world.serve(to(app))
    client = await world.client(server)
    client.send(GET)
    await until(lambda: server.connections == 1)
    await asyncio.sleep(0)
    await server.close(0.01)
    assert await client.rest() == b""
    assert cancelled in ([True], [])  # [] if the request had not arrived yet.
    assert server.connections == 0


async def test_asynchronous_routing_and_immediate_answers(world: World) -> None:
    async def later(head: RequestHead) -> Decision:
        await asyncio.sleep(0)
        if head.path == b"/":
            raise AssertionError
        return Respond(200, [(b"X-A", b"1"), (b"Content-Length", b"99")], head.path)

    client = await world.client(await world.serve(later))
    client.send(b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % n for n in range(3)))
    answers = [await client.response() for _ in range(3)]
    assert [answer.body for answer in answers] == [b"/0", b"/1", b"/2"]
    assert [value for name, value in answers[0].headers if name == b"content-length"] == [b"2"]
    assert answers[0].get(b"date") is not None


async def test_a_client_that_disconnects_cancels_its_routing(world: World) -> None:
    events: list[str] = []

    async def never(head: RequestHead) -> Decision:
        head.on_complete = lambda *found: events.append(f"complete {found}")
        events.append("asked")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")
        raise AssertionError

    client = await world.client(await world.serve(never))
    client.send(GET)
    await until(lambda: events == ["asked"])
    client.cut()
    await until(lambda: len(events) == 3)
    assert sorted(events) == ["asked", "cancelled", "complete (0, 0, 0)"]
