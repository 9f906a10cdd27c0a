"""Long bodies of known length, which are read into one buffer. All their bytes arrive, and the data after them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import pytest

from hatchway.proxy.bulk import LONG, BulkReader
from hatchway.proxy.clientconnection import ClientConnection
from hatchway.proxy.context import Context
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import ResponseHead, Upstream
from hatchway.proxy.server import status_body
from hatchway.proxy.upstream import UpstreamConnection
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.wire import GET, OK, Backend, Script, World, forward

_SIZE = 12 * 1024 * 1024 + 1
BODY = random.Random(1).randbytes(_SIZE)  # The bytes are random, so that overwritten or moved data are noticed.
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _SIZE + BODY
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % _SIZE + BODY


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the size of each bulk read is added."""
    seen: list[int] = []
    original = BulkReader.buffer_updated

    def updated(self: BulkReader, nbytes: int) -> None:
        seen.append(nbytes)
        original(self, nbytes)

    monkeypatch.setattr(BulkReader, "buffer_updated", updated)
    return seen


def tls(authority: Authority, wanted: bool) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Return the contexts of a server and its client."""
    return (authority.server(), authority.client()) if wanted else (None, None)


class _Dawdler(asyncio.Protocol):
    """A client that pauses after each read. It is a protocol, because streams pause their transport themselves."""

    def __init__(self, ask: bytes, size: int) -> None:
        self._ask = ask
        self._size = size
        self.got = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._ask)

    def data_received(self, data: bytes) -> None:
        self.got += data
        if len(self.got) >= self._size:
            self.done.set_result(None)
            return
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(0.005, self._transport.resume_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or EOFError())


@pytest.mark.parametrize("outer", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("inner", [False, True], ids=["http", "https"])
async def test_a_slow_client_gets_every_byte(
    world: World, authority: Authority, pieces: list[int], inner: bool, outer: bool
) -> None:
    server_side, client_side = tls(authority, inner)
    backend = await world.answering(ANSWER, context=server_side)
    listening, asking = tls(authority, outer)
    server = await world.serve(forward(backend.upstream(client_side, "localhost")), ssl=listening)
    dawdler = _Dawdler(GET, len(ANSWER))
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: dawdler, "127.0.0.1", server.port, ssl=asking, server_hostname="localhost" if asking else None
    )
    async with asyncio.timeout(30):
        await dawdler.done
    transport.abort()
    head, _, body = bytes(dawdler.got).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == BODY
    assert sum(pieces) > _SIZE * 0.9


async def test_the_connection_is_used_again_after_a_long_answer(world: World, pieces: list[int]) -> None:
    backend = await world.answering(ANSWER, OK, ANSWER)
    client = await world.client(await world.serve(forward(backend.upstream())))
    assert (await client.ask(GET)).body == BODY
    assert (await client.ask(GET)).body == b"ok"
    assert (await client.ask(GET)).body == BODY
    assert backend.connections == 1
    assert sum(pieces) > _SIZE * 1.8


@pytest.mark.parametrize("inner", [False, True], ids=["http", "https"])
async def test_an_upload_to_a_slow_upstream_arrives_and_what_follows_it_too(
    world: World, authority: Authority, pieces: list[int], inner: bool
) -> None:
    server_side, client_side = tls(authority, inner)

    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"POST ")
            body = bytearray()
            while len(body) < _SIZE:
                body += await reader.read(min(64 * 1024, _SIZE - len(body)))
                await asyncio.sleep(0.001)
            assert body == BODY
            writer.write(OK)
            await backend.read(reader)
            writer.write(OK)
            await reader.read()

        return run

    backend = await world.backend(script, server_side)
    client = await world.client(await world.serve(forward(backend.upstream(client_side, "localhost"))))
    client.send(UPLOAD + GET)
    assert (await client.response()).body == b"ok"
    assert (await client.response()).body == b"ok"
    assert backend.connections == 1
    assert sum(pieces) > _SIZE / 2


async def test_an_answer_before_the_end_of_a_long_upload_is_relayed(world: World, pieces: list[int]) -> None:
    """The rest of the upload is not read as another request."""

    def script(backend: Backend) -> Script:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(4 * 1024 * 1024)
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

        return run

    backend = await world.backend(script)
    client = await world.client(await world.serve(forward(backend.upstream())))
    client.send(UPLOAD)
    assert (await client.response()).status == 413
    assert await client.rest() == b""
    assert pieces


async def test_a_body_that_is_transformed_is_not_read_in_bulk(world: World, pieces: list[int]) -> None:
    class Upper:
        def feed(self, data: bytes) -> bytes:
            assert isinstance(data, bytes)
            return data.upper()

        def finish(self) -> bytes:
            return b"!"

    def edit(head: ResponseHead) -> Upper:
        return Upper()

    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    client = await world.client(await world.serve(forward(backend.upstream(), edit_response=edit)))
    assert (await client.ask(GET)).body == b"X" * 1_000_000 + b"!"
    assert not pieces


class _Connection(asyncio.Protocol):
    """A connection that accepts all data."""

    def __init__(self, left: int) -> None:
        self.bulk_left = left
        self.rest = b""
        self.transport = cast(asyncio.Transport, _Transport())
        self.transport.set_protocol(self)

    def bulk_received(self, data: memoryview) -> bool:
        self.bulk_left -= len(data)
        return self.bulk_left > 0

    def data_received(self, data: bytes) -> None:
        self.rest += data


def test_nothing_is_read_beyond_the_end_of_the_body() -> None:
    assert len(BulkReader(_Connection(5)).get_buffer(-1)) == 5


async def test_data_after_the_body_belong_to_the_connection() -> None:
    """After a change of its protocol, a transport may still request one more buffer from the old protocol."""
    connection = _Connection(5)
    reader = BulkReader(connection)
    reader.get_buffer(-1)[:] = b"12345"
    reader.buffer_updated(5)
    reader.get_buffer(-1)[:3] = b"GET"
    reader.buffer_updated(3)
    assert connection.rest == b"GET"
    await asyncio.sleep(0)
    assert connection.transport.get_protocol() is connection


class _Transport:
    """A transport that accepts all data. Once, after `room` bytes, it calls `pause_writing`; never if room is None."""

    def __init__(self, room: int | None = None) -> None:
        self.protocol: asyncio.BaseProtocol | None = None
        self.written = bytearray()
        self.reading = True
        self._room = room

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol | None:
        return self.protocol

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | memoryview) -> None:
        self.written += data
        if self._room is not None and len(self.written) > self._room:
            self._room = None
            assert isinstance(self.protocol, asyncio.Protocol)
            self.protocol.pause_writing()

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Ends:
    """The engine's connections to a client and to an idle upstream. Tests call their transports directly."""

    context: Context
    client: ClientConnection
    front: _Transport
    connection: UpstreamConnection
    behind: _Transport


@contextlib.asynccontextmanager
async def ends(front: _Transport, behind: _Transport) -> AsyncIterator[Ends]:
    upstream = Upstream("u", Backend(lambda reader, writer: asyncio.sleep(0)).connect)
    pool = Pool(Limits())
    context = Context(asyncio.get_running_loop(), forward(upstream), Limits(), pool, status_body)
    sock, peer = socket.socketpair()
    sock.setblocking(False)
    connection = UpstreamConnection(pool, upstream.key, sock)
    behind.set_protocol(connection)
    connection.connection_made(cast(asyncio.Transport, behind))
    pool.put(connection)
    client = ClientConnection(context, False)
    front.set_protocol(client)
    client.connection_made(cast(asyncio.Transport, front))
    yield Ends(context, client, front, connection, behind)
    sock.close()
    peer.close()
    await context.end_tasks()


def read_in_bulk(transport: _Transport, size: int) -> None:
    while size:
        reader = transport.get_protocol()
        assert isinstance(reader, BulkReader)
        got = len(reader.get_buffer(-1))
        reader.buffer_updated(got)
        size -= got


async def test_an_answer_whose_last_piece_fills_the_client_leaves_no_paused_upstream() -> None:
    size = 2 * LONG
    async with ends(_Transport(room=size), _Transport()) as world:
        for _ in range(2):
            world.client.data_received(GET)
            world.context.flush()
            world.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            read_in_bulk(world.behind, size)
            assert world.behind.reading
            world.client.resume_writing()
            await asyncio.sleep(0)
        assert world.behind.written.count(b"GET") == 2


async def test_an_answer_before_the_end_of_an_upload_is_written_leaves_no_paused_client() -> None:
    """The last chunk of the upload fills the upstream's buffer, which does not drain before the response comes."""
    size = 2 * LONG
    async with ends(_Transport(), _Transport(room=size)) as world:
        world.client.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        read_in_bulk(world.front, size)
        await asyncio.sleep(0)
        assert world.front.get_protocol() is world.client
        assert not world.front.reading
        world.connection.data_received(OK)
        world.context.flush()
        assert world.front.written.endswith(b"ok")
        assert world.front.reading
