"""Heads as large as Go's servers and clients accept are forwarded. The memory of all heads of a process is limited."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from hatchway.proxy import budget
from hatchway.proxy.routing import Decision, RequestHead, Respond, Upstream
from tests.integration.proxy.wire import GET, OK, Backend, Client, Script, World, forward, until

LARGE = b"X-Large: " + b"x" * 1_000_000 + b"\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: x\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE
MANY = b"".join(b"X-%d: y\r\n" % number for number in range(9000))


async def test_large_heads_pass_both_ways(world: World) -> None:
    for field, times in ((LARGE, 9), (MANY, 1)):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + field * times + b"\r\nok"
        backend = await world.answering(answer, OK)
        client = await world.client(await world.serve(forward(backend.upstream())))
        for _ in range(2):
            got = await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n")
            assert (got.status, got.body) == (200, b"ok")
        assert len(backend.requests[0].headers) == 1 + field.count(b"\n")
        assert budget.HEADS.taken == 0


@pytest.mark.parametrize("size", [20_000, 1_000_000])
async def test_the_heads_of_upgrades_are_as_large(world: World, size: int) -> None:
    field = b"X-Large: " + b"x" * size + b"\r\n"

    def echo(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(SWITCHED + field * 9 + b"\r\n")
            writer.write(await reader.readexactly(4))

        return run

    backend = await world.backend(echo)
    ends = []

    def route(head: RequestHead) -> Decision:
        head.on_complete = lambda *what: ends.append(what)
        return forward(backend.upstream(), keep=False)(head)

    server = await world.serve(route)
    client = await world.client(server)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + field + UPGRADE + b"\r\n")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ") and head.count(field) == 9
    # An upgraded connection no longer counts its head.
    await until(lambda: budget.HEADS.taken == 0)
    connection = next(iter(server._context.connections))
    requests = connection.requests
    assert requests.request is None and requests.head is not None and not requests.head.headers
    client.send(b"ping")
    assert await client.reader.readexactly(4) == b"ping"
    client.cut()
    await until(lambda: ends == [(101, 4, 4)])


async def test_a_response_head_that_is_too_large_is_an_error(world: World) -> None:
    backend = await world.answering(b"HTTP/1.1 200 OK\r\n" + LARGE * 11)
    client = await world.client(await world.serve(forward(backend.upstream())))
    got = await client.ask(GET)
    assert (got.status, got.body) == (
        503,
        b"protocol: net/http: server response headers exceeded 10485760 bytes; aborted",
    )
    await until(lambda: budget.HEADS.taken == 0)


async def test_the_total_size_of_incomplete_heads_is_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget.HEADS, "limit", 4_000_000)
    server = await world.serve(lambda head: Respond(200, []))
    clients = [await world.client(server) for _ in range(12)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * 500_000)
    answers = [asyncio.create_task(client.response()) for client in clients]
    await until(lambda: sum(answer.done() for answer in answers) >= 4)
    assert {(await answer).status for answer in answers if answer.done()} == {503}
    assert 3_000_000 < budget.HEADS.taken <= 4_000_000
    # Requests with ordinary heads are still served.
    other = await world.client(server)
    assert (await other.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000 + b"\r\n\r\n")).status == 200
    for answer, client in zip(answers, clients, strict=True):
        answer.cancel()
        client.cut()
    await until(lambda: budget.HEADS.taken == 0)


async def test_many_small_fields_count_as_more_than_their_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget.HEADS, "limit", 2_000_000)
    server = await world.serve(lambda head: Respond(200, []))
    client = await world.client(server)
    assert (await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 9000 + b"\r\n")).status == 503
    assert budget.HEADS.taken == 0


async def test_large_heads_that_a_client_does_not_read_are_counted(world: World) -> None:
    """The head is counted while it waits in the client's socket, although the upstream has finished."""
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + LARGE * 9 + b"\r\nok")
    server = await world.serve(forward(backend.upstream()))
    client = await world.client(server)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET * 3)
    await until(lambda: budget.HEADS.taken > 9_000_000)
    await until(lambda: len(server._context.pool) == 1)
    assert len(backend.requests) == 1
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(3):
        assert (await client.response()).body == b"ok"
    await until(lambda: budget.HEADS.taken == 0)


async def test_answers_are_paused_for_a_client_that_does_not_read(world: World) -> None:
    server = await world.serve(lambda head: Respond(404, [], b"x" * 1000))
    client = await world.client(server)
    await until(lambda: server.connections == 1)
    connection = next(iter(server._context.connections))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    count = 5_000
    sending = asyncio.create_task(_send(client, GET * count))
    await until(lambda: connection._full)
    for _ in range(20):
        await asyncio.sleep(0)
    assert connection.transport.get_write_buffer_size() < 256 * 1024
    assert len(connection._reader.buffer) < 1024 * 1024 and not connection.transport.is_reading()
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(count):
        assert (await client.response()).status == 404
    await sending


async def _send(client: Client, data: bytes) -> None:
    client.send(data)
    await client.writer.drain()


async def test_an_upstream_that_has_not_read_the_whole_head_is_not_used_again(world: World) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def connect() -> socket.socket:
            sock = socket.create_connection(listener.getsockname())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return sock

        server = await world.serve(forward(Upstream("narrow", connect)))
        client = await world.client(server)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + LARGE + b"\r\n")
        upstream, _ = await loop.sock_accept(listener)
        with upstream:
            await loop.sock_recv(upstream, 1)
            await loop.sock_sendall(upstream, OK)  # The upstream answers without reading the rest of the head.
            assert (await client.response()).body == b"ok"
            assert len(server._context.pool) == 0


async def test_the_total_size_of_heads_of_exchanges_is_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget.HEADS, "limit", 7_000_000)
    waiting = asyncio.Event()

    async def route(head: RequestHead) -> Decision:
        await waiting.wait()
        return Respond(200, [])

    server = await world.serve(route)
    clients = [await world.client(server) for _ in range(4)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + LARGE + b"\r\n")
    await until(lambda: len(server._context._tasks) == 2)
    waiting.set()
    found = sorted([(await client.response()).status for client in clients])
    assert found == [200, 200, 503, 503]
    for client in clients:
        client.cut()
    await until(lambda: budget.HEADS.taken == 0)


async def test_a_head_in_many_pieces_costs_no_more_than_its_bytes(world: World) -> None:
    """The head is not copied, and not searched from its beginning, for each chunk."""

    server = await world.serve(lambda head: Respond(200, [], b"%d" % len(head.target)))
    client = await world.client(server)
    await until(lambda: server.connections == 1)
    reader = next(iter(server._context.connections))
    reader.data_received(b"GET /")
    began = time.process_time()
    for _ in range(20_000):
        reader.data_received(b"x" * 10)
    reader.data_received(b" HTTP/1.1\r\nHost: a\r\n")
    for _ in range(20_000):
        reader.data_received(b"X: y\r\n" if _ < 9000 else b"z")
    assert time.process_time() - began < 5  # Copies would take a second or two for each ten thousand chunks.
    client.send(b": y\r\n\r\n")
    answer = await client.response()
    assert answer.body == b"200001", answer.body


async def test_empty_lines_cost_no_more_than_their_bytes(world: World) -> None:
    server = await world.serve(lambda head: Respond(204, []))
    client = await world.client(server)
    client.send(b"\r\n" * 500_000)
    assert (await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).status == 204
