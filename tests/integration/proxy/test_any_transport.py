"""Upstreams that are not sockets, but streams inside another connection, like those of some routes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from hatchway.proxy.bulk import LONG
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Upstream
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.test_upgrade import ASK, SWITCH, echo, switching
from tests.integration.proxy.wire import GET, OK, Backend, Script, World, forward, until

LARGE = 4 * LONG + 123


class Stream(asyncio.Transport):
    """A transport over another one. It inverts every byte, so that tests notice if the engine bypasses it.

    It writes data only in the next turn of the loop, so that tests notice if the engine reuses a buffer too early.
    """

    def __init__(self, below: asyncio.Transport) -> None:
        super().__init__()
        self._below = below
        self._protocol: asyncio.Protocol | None = None
        self._pending: list[bytes | memoryview] = []
        self.pauses = 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    @property
    def above(self) -> asyncio.Protocol:
        assert self._protocol is not None
        return self._protocol

    def write(self, data: Any) -> None:
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(data)

    def _flush(self) -> None:
        data, self._pending = b"".join(self._pending), []
        if not self._below.is_closing():
            self._below.write(data.translate(INVERTED))

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size() + sum(map(len, self._pending))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self.pauses += 1
        self._below.pause_reading()

    def resume_reading(self) -> None:
        self._below.resume_reading()

    def is_reading(self) -> bool:
        return self._below.is_reading()

    def is_closing(self) -> bool:
        return self._below.is_closing()

    def close(self) -> None:
        self._flush()
        self._below.close()

    def abort(self) -> None:
        self._pending.clear()
        self._below.abort()


INVERTED = bytes(255 - number for number in range(256))


class Below(asyncio.Protocol):
    """The protocol of the connection below a stream. It passes the data and events to the stream's protocol."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        below = cast(asyncio.Transport, transport)
        below.pause_reading()
        self.stream = Stream(below)

    def data_received(self, data: bytes) -> None:
        self.stream.above.data_received(data.translate(INVERTED))

    def eof_received(self) -> bool | None:
        return self.stream.above.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.stream._protocol is not None:
            self.stream.above.connection_lost(exc)

    def pause_writing(self) -> None:
        self.stream.above.pause_writing()

    def resume_writing(self) -> None:
        self.stream.above.resume_writing()


class Tunnel:
    """Opens streams to a backend. streams: the opened streams."""

    def __init__(self, world: World, port: int) -> None:
        self._port = port
        self.streams: list[Stream] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        _, below = await loop.create_connection(Below, "127.0.0.1", self._port)
        self.streams.append(below.stream)
        return below.stream

    def upstream(self, tls: ssl.SSLContext | None = None, name: str | None = None) -> Upstream:
        return Upstream(("tunnel", self._port, name), self.connect, tls, name)


async def tunnel(world: World, backend: Backend) -> Tunnel:
    """Run the far end of the streams, which inverts the bytes again and forwards them to the backend."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data.translate(INVERTED))
                await writer.drain()
            writer.write_eof()
        except (ConnectionError, NotImplementedError, RuntimeError):
            writer.transport.abort()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", backend.port)
        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            back.transport.abort()

    far = await world.backend(lambda _: run)
    return Tunnel(world, far.port)


async def test_requests_share_a_stream(world: World) -> None:
    backend = await world.answering(OK)
    way = await tunnel(world, backend)
    client = await world.client(await world.serve(forward(way.upstream())))
    assert [(await client.ask(GET)).body for _ in range(3)] == [b"ok"] * 3
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    assert (await client.ask(post)).body == b"ok"  # A request that must not be sent twice may use an idle stream, too.
    assert (len(way.streams), backend.requests[-1].body) == (1, b"hi")


async def test_long_bodies_both_ways(world: World) -> None:
    """The engine does not reuse a buffer before the stream has written it."""
    body = bytes(range(251)) * (LARGE // 251 + 1)
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    way = await tunnel(world, backend)
    client = await world.client(await world.serve(forward(way.upstream())))
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert (await client.response()).body == body
    assert backend.requests[0].body == body


async def test_a_client_that_does_not_read_pauses_the_stream(world: World) -> None:
    size = 30_000_000
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size))
    way = await tunnel(world, backend)
    client = await world.client(await world.serve(forward(way.upstream())))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET)
    await until(lambda: bool(way.streams) and way.streams[0].pauses > 0)
    assert not way.streams[0].is_reading()
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await client.response()).body == b"x" * size


async def test_upgrades(world: World) -> None:
    backend = await world.backend(switching(echo, SWITCH + b"hello"))
    way = await tunnel(world, backend)
    server = await world.serve(forward(way.upstream()))
    client = await world.client(server)
    assert (await client.ask(ASK + b"early")).status == 101
    assert await client.reader.readexactly(10) == b"helloearly"
    data = b"z" * 3_000_000
    client.send(data)
    assert await client.reader.readexactly(len(data)) == data
    client.cut()
    await until(lambda: server.connections == 0 and way.streams[0].is_closing())


async def test_tls_inside_the_stream(world: World, authority: Authority) -> None:
    body = bytes(range(251)) * (LARGE // 251 + 1)
    answers = OK, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    way = await tunnel(world, await world.answering(*answers, context=authority.server()))
    client = await world.client(await world.serve(forward(way.upstream(authority.client(), "localhost"))))
    assert (await client.ask(GET)).body == b"ok"
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert (await client.response()).body == body
    assert len(way.streams) == 1
    client.cut()


@pytest.mark.parametrize("name", ["elsewhere", None])
async def test_a_wrong_name_inside_the_stream(world: World, authority: Authority, name: str | None) -> None:
    way = await tunnel(world, await world.answering(OK, context=authority.server()))
    client = await world.client(await world.serve(forward(way.upstream(authority.client(), name))))
    answer = await client.ask(GET)
    assert (answer.get(b"x-stage"), b"failed to verify certificate" in answer.body) == (b"tls", True)
    await until(way.streams[0].is_closing)


async def test_no_tls_at_the_end_of_the_stream(world: World, authority: Authority) -> None:
    def plain(_backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

        return run

    way = await tunnel(world, await world.backend(plain))
    client = await world.client(await world.serve(forward(way.upstream(authority.client(), "localhost"))))
    assert (await client.ask(GET)).get(b"x-stage") == b"tls"
    await until(way.streams[0].is_closing)


async def test_silence_instead_of_tls(world: World, authority: Authority) -> None:
    def silent(_backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        return run

    way = await tunnel(world, await world.backend(silent))
    server = await world.serve(
        forward(way.upstream(authority.client(), "localhost")), limits=Limits(upstream_tls_timeout=0.2)
    )
    answer = await (await world.client(server)).ask(GET)
    assert (answer.get(b"x-stage"), b"no answer to the TLS handshake" in answer.body) == (b"tls", True)
    await until(way.streams[0].is_closing)


def _resetting(after: bytes) -> Callable[[Backend], Script]:
    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            writer.write(after)
            await writer.drain()
            writer.transport.abort()

        return run

    return script


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_a_stream_that_breaks(world: World, after: bytes) -> None:
    backend = await world.backend(_resetting(after))
    way = await tunnel(world, backend)
    client = await world.client(await world.serve(forward(way.upstream())))
    client.send(GET)
    got = await client.rest() if after else (await client.response()).body
    assert got.endswith(b"half") if after else got.startswith(b"read: ")


async def test_a_client_that_disconnects_ends_the_stream(world: World) -> None:
    def silent(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await backend.read(reader)
            await reader.read()

        return run

    backend = await world.backend(silent)
    way = await tunnel(world, backend)
    server = await world.serve(forward(way.upstream()))
    client = await world.client(server)
    client.send(GET)
    await until(lambda: bool(backend.requests))
    client.cut()
    await until(lambda: way.streams[0].is_closing() and server.connections == 0)


async def test_a_stream_that_cannot_be_opened(world: World) -> None:
    async def connect() -> asyncio.Transport:
        raise ConnectionRefusedError(111, "Connection refused")

    client = await world.client(await world.serve(forward(Upstream("none", connect))))
    assert (await client.ask(GET)).body == b"dial: connection refused"
