"""Repeated heads are forwarded by a cached decision, without a call of the routing function; responses may differ."""

from __future__ import annotations

import asyncio

import pytest

from hatchway.proxy.routing import Decision, Forward, RequestHead, Respond, ResponseHead
from tests.integration.proxy.wire import GET, OK, Backend, Client, Kept, Message, Script, World, forward, refuse, until

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Routed:
    """A routing function whose decisions are valid while `is_valid` is true. asked: the number of calls."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.asked = 0
        self.is_valid = True

    def __call__(self, head: RequestHead) -> Decision:
        self.asked += 1
        fields = [*head.headers, (b"X-Asked", b"%d" % self.asked)]
        found = Forward(self._backend.upstream(), head.target, fields, refuse)
        head.cached = Kept(found, lambda: self.is_valid)
        return found


async def asked_three_times(client: Client, method: str = "GET") -> list[Message]:
    return [await client.ask(GET.replace(b"GET", method.encode()), method) for _ in range(3)]


async def test_the_routing_function_is_called_once_while_its_decision_is_valid(world: World) -> None:
    backend = await world.answering(OK)
    route = Routed(backend)
    server = await world.serve(route)
    client, other = await world.client(server), await world.client(server)
    assert [answer.body for answer in await asked_three_times(client)] == [b"ok"] * 3
    assert (await other.ask(GET)).body == b"ok"
    assert route.asked == 1
    route.is_valid = False
    await client.ask(GET)
    assert route.asked == 2
    route.is_valid = True
    await client.ask(GET)
    assert [message.get(b"x-asked") for message in backend.requests] == [b"1", b"1", b"1", b"1", b"2", b"2"]


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    ],
)
async def test_heads_of_all_kinds_are_decided_on_once(world: World, head: bytes) -> None:
    backend = await world.answering(OK)
    route = Routed(backend)
    client = await world.client(await world.serve(route))
    body = b"2\r\nhi\r\n0\r\n\r\n" if b"chunked" in head else b"hi" if b"Length: 2" in head else b""
    for _ in range(2):
        client.send(head)
        client.send(body)
        assert (await client.response()).body == b"ok"
    assert route.asked == 1
    assert [message.body for message in backend.requests] == [b"hi" if body else b""] * 2


async def test_the_routing_function_is_called_each_time_if_its_decision_is_not_cached(world: World) -> None:
    backend = await world.answering(OK)
    asked = 0

    def route(head: RequestHead) -> Decision:
        nonlocal asked
        asked += 1
        return Forward(backend.upstream(), head.target, head.headers, refuse) if asked != 2 else Respond(418, [])

    client = await world.client(await world.serve(route))
    assert [answer.status for answer in await asked_three_times(client)] == [200, 418, 200]


@pytest.mark.parametrize(
    ("method", "answers", "bodies"),
    [
        ("GET", [OK, OK.replace(b"ok", b"ko"), OK.replace(b"2\r\n\r\nok", b"3\r\n\r\nyes")], [b"ok", b"ko", b"yes"]),
        ("GET", [OK, OK, CHUNKED], [b"ok"] * 3),
        ("GET", [CHUNKED] * 3, [b"ok"] * 3),
        ("GET", [OK, OK, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"], [b"ok", b"ok", b""]),
        ("GET", [OK, OK, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK], [b"ok"] * 3),
        ("GET", [OK, OK, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], [b"ok"] * 3),
        ("HEAD", [OK[:-2], OK[:-2], OK[:-2], OK], [b""] * 3),
    ],
)
async def test_answers_of_all_kinds(world: World, method: str, answers: list[bytes], bodies: list[bytes]) -> None:
    backend = await world.answering(*answers)
    route = Routed(backend)
    client = await world.client(await world.serve(route))
    got = await asked_three_times(client, method)
    assert [answer.body for answer in got] == bodies
    assert got[2].interim == ([b"HTTP/1.1 103 Early Hints"] if b"103" in answers[2] else [])
    assert (await client.ask(GET)).status == got[2].status  # The connection can still be used.
    assert route.asked == (1 if method == "GET" else 2)


@pytest.mark.parametrize("cut", [1, 9, OK.index(b"\r\n\r\n") + 2, len(OK) - 2, len(OK) - 1])
async def test_an_answer_in_pieces(world: World, cut: int) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await backend.read(reader)
                writer.write(OK[:cut])
                await asyncio.sleep(0.001)
                writer.write(OK[cut:])

        return run

    backend = await world.backend(script)
    route = Routed(backend)
    client = await world.client(await world.serve(route))
    assert [answer.body for answer in await asked_three_times(client)] == [b"ok"] * 3
    assert (route.asked, backend.connections) == (1, 1)


async def test_pipelined(world: World) -> None:
    backend = await world.answering(*[OK.replace(b"ok", b"%02d" % n) for n in range(30)])
    route = Routed(backend)
    client = await world.client(await world.serve(route))
    await client.ask(GET)
    client.send(GET)  # This piece is one whole head; the next data come while its request is in progress.
    for _ in range(14):
        client.send(GET * 2)
    assert [int((await client.response()).body) for _ in range(29)] == list(range(1, 30))


async def test_edit_response_applies_to_repeated_heads(world: World) -> None:
    seen = []

    def edit(head: ResponseHead) -> None:
        seen.append(head.status)
        head.headers.append((b"X-Seen", b"yes"))

    backend = await world.answering(OK, OK, OK, OK.replace(b"200 OK", b"404 Not Found"))
    client = await world.client(await world.serve(forward(backend.upstream(), edit_response=edit)))
    answers = [*await asked_three_times(client), await client.ask(GET)]
    assert [answer.get(b"x-seen") for answer in answers] == [b"yes"] * 4
    assert seen == [200, 404]


async def test_a_refusal_is_reconsidered_each_time(world: World) -> None:
    async def again(body: bytes) -> Respond:
        return Respond(200, [], b"instead of " + body)

    backend = await world.answering(OK.replace(b"200 OK", b"401 Unauthorized"))
    route = forward(backend.upstream(), reconsider=lambda head: again)
    client = await world.client(await world.serve(route))
    assert [answer.body for answer in await asked_three_times(client)] == [b"instead of ok"] * 3


async def test_an_upstream_that_has_hung_up_is_dialed_again(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(OK)
            await reader.read(1)  # The next request, which this backend does not answer.

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert [answer.body for answer in await asked_three_times(client)] == [b"ok"] * 3
    assert backend.connections == 3


async def test_an_unreachable_upstream_is_reported(world: World) -> None:
    backend = await world.answering(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert (await client.ask(GET)).status == 200
    await backend.close()
    answer = await client.ask(GET)
    assert answer.status == 503
    assert answer.body.startswith(b"dial: ")


async def test_an_answer_that_breaks_off(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in (OK, OK, OK[:-1]):
                await backend.read(reader)
                writer.write(answer)

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    for _ in range(2):
        assert (await client.ask(GET)).body == b"ok"
    with pytest.raises(asyncio.IncompleteReadError):
        await client.ask(GET)


async def test_a_client_that_disconnects_ends_the_upstream(world: World) -> None:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(OK)
            await backend.read(reader)
            assert await reader.read() == b""

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    await client.ask(GET)
    client.send(GET)
    await until(lambda: len(backend.requests) == 2)
    client.cut()
    async with asyncio.timeout(10):
        await backend.ended.wait()
