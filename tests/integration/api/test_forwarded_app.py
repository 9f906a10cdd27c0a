"""Responses of an upstream through an ASGI application: slow clients, clients that disconnect, broken upstreams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hatchway.cluster.api.connect.forwardedapp import ForwardedApp
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import Forward, ProxyError, Respond, Upstream

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers each connection with `answer`. ended: set when the last connection has closed."""

    def __init__(self, answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._answer = answer
        self.request = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await self._answer(writer)
            await reader.read()
        writer.close()
        self.ended.set()


@contextlib.asynccontextmanager
async def forwarded(server: Server, http: HttpClient) -> AsyncIterator[ForwardedApp]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]

    async def connect() -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        return connection

    def refuse(error: ProxyError) -> Respond:
        return Respond(500, [(b"x", b"y")], error.stage.encode())

    try:
        yield ForwardedApp(http, Forward(Upstream("u", connect), b"/log?a=b", [(b"Host", b"h")], refuse))
    finally:
        listener.close()
        await http.aclose()


class Client:
    """The client's side of the application. Events: `send` waits for `ready`; to set `gone` disconnects the client."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.ready = asyncio.Event()
        self.ready.set()
        self.gone = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        await self.ready.wait()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def test_a_response_that_the_upstream_breaks_off_ends() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + b"5\r\nhello\r\n")
        await writer.drain()
        writer.close()

    server, client = Server(answer), Client()
    async with asyncio.timeout(30), forwarded(server, HttpClient()) as app:
        await app({}, client.receive, client.send)
    assert server.request == b"GET /log?a=b HTTP/1.1\r\nHost: h\r\n\r\n"
    assert client.messages[0]["status"] == 200 and client.body == b"hello"
    assert [message["more_body"] for message in client.messages[1:]] == [True, True, False]


async def test_an_upstream_that_does_not_answer() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    client = Client()
    async with asyncio.timeout(30), forwarded(Server(answer), HttpClient()) as app:
        await app({}, client.receive, client.send)
    assert client.messages[0] == {"type": "http.response.start", "status": 500, "headers": [(b"x", b"y")]}
    assert client.body == b"read" and not client.messages[-1]["more_body"]


async def test_a_slow_client_pauses_the_upstream_and_a_disconnect_ends_it() -> None:
    """Until the client reads, the upstream sends only as much as the sockets and the client's buffer can hold."""
    stuck, finished = asyncio.Event(), asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        for _ in range(1024):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            draining = asyncio.ensure_future(writer.drain())
            idle = 0
            while not draining.done():
                idle += 1
                if idle == 1000:
                    stuck.set()
                await asyncio.sleep(0)
            await draining
        finished.set()

    server, client = Server(answer), Client()
    client.ready.clear()
    async with asyncio.timeout(60), forwarded(server, HttpClient()) as app:
        running = asyncio.ensure_future(app({}, client.receive, client.send))
        ends = [asyncio.ensure_future(stuck.wait()), asyncio.ensure_future(finished.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert not finished.is_set()
        client.gone.set()
        await running
        await server.ended.wait()
        ends[1].cancel()


async def test_a_client_that_disconnects_before_the_head_ends_the_request() -> None:
    asked = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        asked.set()

    server, client = Server(answer), Client()
    async with asyncio.timeout(30), forwarded(server, HttpClient()) as app:
        running = asyncio.ensure_future(app({}, client.receive, client.send))
        await asked.wait()
        client.gone.set()
        await running
        await server.ended.wait()
    assert client.messages == []


async def test_a_cancelled_application_ends_the_request() -> None:
    asked = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        asked.set()

    server, client = Server(answer), Client()
    async with asyncio.timeout(30), forwarded(server, HttpClient()) as app:
        running = asyncio.ensure_future(app({}, client.receive, client.send))
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await server.ended.wait()
