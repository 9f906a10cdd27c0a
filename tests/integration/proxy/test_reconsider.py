"""Responses that the routing function may replace or retry before they are relayed (`reconsider`)."""

from __future__ import annotations

import asyncio

import pytest

from hatchway.proxy.routing import Forward, Reconsider, RequestHead, Respond, ResponseHead
from tests.integration.proxy.test_upgrade import ASK, echo, switching
from tests.integration.proxy.wire import GET, OK, World, forward, refuse

REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nX-Why: host\r\n\r\nno!"
CHUNKED = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\nX-Why: host\r\n\r\n2\r\nno\r\n1\r\n!\r\n0\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def deciding(decision: Respond | Forward | None, seen: list[bytes]) -> object:
    async def again(body: bytes) -> Respond | Forward | None:
        seen.append(body)
        await asyncio.sleep(0)
        return decision

    def reconsider(head: ResponseHead) -> Reconsider | None:
        return again if head.header(b"x-why") == b"host" else None

    return reconsider


@pytest.mark.parametrize("refusal", [REFUSED, CHUNKED])
async def test_reconsider_may_forward_to_another_upstream(world: World, refusal: bytes) -> None:
    first, second = await world.answering(refusal), await world.answering(OK)
    seen: list[bytes] = []
    other = Forward(second.upstream(), b"/other", [(b"Host", b"b")], refuse)
    route = forward(first.upstream(), reconsider=deciding(other, seen))
    client = await world.client(await world.serve(route))
    for _ in range(3):  # Responses to cached heads are reconsidered, too.
        assert (await client.ask(GET)).status == 200
    assert seen == [b"no!"] * 3
    assert second.requests[0].start == b"GET /other HTTP/1.1"
    # The body of a POST is not stored, so the request cannot be sent again.
    answer = await client.ask(POST)
    assert (answer.status, answer.body, answer.get(b"x-why")) == (403, b"no!", b"host")
    assert (await client.ask(GET)).status == 200


@pytest.mark.parametrize("refusal", [REFUSED, CHUNKED])
async def test_a_refused_upgrade_is_sent_to_another_upstream(world: World, refusal: bytes) -> None:
    first = await world.answering(refusal)
    second = await world.backend(switching(echo))
    seen: list[bytes] = []
    switched: list[str] = []
    other = Forward(second.upstream(), b"/other", [(b"Host", b"b")], refuse, switched=lambda: switched.append("other"))
    route = forward(first.upstream(), reconsider=deciding(other, seen), switched=lambda: switched.append("first"))
    client = await world.client(await world.serve(route))
    # Data that the client sends early go to the upstream that accepts.
    assert (await client.ask(ASK + b"early")).status == 101
    assert await client.reader.readexactly(5) == b"early"
    assert seen == [b"no!"] and switched == ["other"]
    assert second.requests[0].start == b"GET /other HTTP/1.1"
    assert (b"upgrade", b"websocket") in second.requests[0].headers


async def test_a_refused_upgrade_is_relayed_as_it_was(world: World) -> None:
    backend = await world.answering(REFUSED)
    seen: list[bytes] = []
    client = await world.client(await world.serve(forward(backend.upstream(), reconsider=deciding(None, seen))))
    client.send(ASK + GET)
    answer = await client.response()
    assert (answer.status, answer.body, answer.get(b"connection")) == (403, b"no!", b"close")
    assert await client.rest() == b"" and seen == [b"no!"]


@pytest.mark.parametrize("refusal", [REFUSED, CHUNKED])
async def test_reconsider_may_replace_a_response_or_relay_it(world: World, refusal: bytes) -> None:
    backend = await world.answering(refusal)
    page = Respond(418, [(b"X-Page", b"1")], b"page")
    decisions: list[Respond | None] = [page, None, None, page]

    def reconsider(head: ResponseHead) -> Reconsider:
        async def again(body: bytes) -> Respond | None:
            return decisions.pop(0)

        return again

    client = await world.client(await world.serve(forward(backend.upstream(), reconsider=reconsider)))
    for expected in ((418, b"page"), (403, b"no!"), (403, b"no!"), (418, b"page")):
        answer = await client.ask(GET)
        assert (answer.status, answer.body) == expected


async def test_long_bodies_and_good_answers_are_relayed_at_once(world: World) -> None:
    size = 200_000
    backend = await world.answering(b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size, OK)
    asked: list[int] = []

    def reconsider(head: ResponseHead) -> Reconsider:
        asked.append(head.status)

        async def again(body: bytes) -> Respond:
            raise AssertionError("too long to wait for")

        return again

    client = await world.client(await world.serve(forward(backend.upstream(), reconsider=reconsider)))
    answer = await client.ask(GET)
    assert (answer.status, len(answer.body)) == (500, size)
    assert (await client.ask(GET)).status == 200
    assert asked == [500]


async def test_a_decision_that_fails_relays_the_response(world: World, caplog: pytest.LogCaptureFixture) -> None:
    backend = await world.answering(REFUSED)

    def reconsider(head: ResponseHead) -> Reconsider:
        async def again(body: bytes) -> Respond:
            raise RuntimeError("broken")

        return again

    client = await world.client(await world.serve(forward(backend.upstream(), reconsider=reconsider)))
    assert (await client.ask(GET)).body == b"no!"
    assert "reconsidering a response failed" in caplog.text


async def test_a_client_that_disconnects_ends_the_decision(world: World) -> None:
    backend = await world.answering(REFUSED)
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    def route(head: RequestHead) -> Forward:
        return Forward(backend.upstream(), head.target, head.headers, refuse, reconsider=lambda head: again)

    async def again(body: bytes) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = await world.client(await world.serve(route))
    client.send(GET)
    async with asyncio.timeout(10):
        await begun.wait()
        client.cut()
        await cancelled.wait()
