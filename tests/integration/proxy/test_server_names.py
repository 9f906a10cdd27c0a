"""Certificates that are chosen by the client's server name (SNI)."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Decision, RequestHead, Respond
from hatchway.proxy.server import Server
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.wire import GET, World, until


def scheme(head: RequestHead) -> Decision:
    return Respond(200, [], head.peer.scheme.encode())


class Chooser:
    """Chooses the certificate: for the name `other`, that of another authority. Records the names."""

    def __init__(self, context: ssl.SSLContext, other: ssl.SSLContext) -> None:
        self._context, self._other = context, other
        self.names: list[str] = []

    def __call__(self, name: str) -> ssl.SSLContext:
        self.names.append(name)
        return self._other if name == "other" else self._context


@pytest.fixture
def chooser(authority: Authority, stranger: Authority) -> Chooser:
    return Chooser(authority.server(), stranger.server())


def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    return context


def hello(name: str | None, authority: Authority) -> tuple[bytes, ssl.SSLObject]:
    """Return the first TLS message of a client (ClientHello)."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(received, sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read(), client


async def ask(server: Server, context: ssl.SSLContext, name: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname=name)
    try:
        writer.write(GET)
        return await reader.readuntil(b"https")
    finally:
        writer.close()


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """Return the data up to the end of a connection; b"" if it was reset, because the server left data unread."""
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""


async def test_each_name_has_its_certificate(
    world: World, chooser: Chooser, authority: Authority, stranger: Authority
) -> None:
    server = await world.serve(scheme, ssl=chooser)
    for _ in range(2):
        assert await ask(server, trusting(authority), "one")
        assert await ask(server, trusting(stranger), "other")
        assert await ask(server, trusting(authority), "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        await ask(server, trusting(authority), "other")
    assert chooser.names == ["one", "other", ""] * 2 + ["other"]


async def test_many_handshakes_at_once(
    world: World, chooser: Chooser, authority: Authority, stranger: Authority
) -> None:
    server = await world.serve(scheme, ssl=chooser)
    pairs = [(stranger, "other") if number % 3 else (authority, f"name-{number}") for number in range(30)]
    assert all(await asyncio.gather(*(ask(server, trusting(trusted), name) for trusted, name in pairs)))


async def test_first_message_in_single_bytes(world: World, chooser: Chooser, authority: Authority) -> None:
    server = await world.serve(scheme, ssl=chooser)
    message, _ = hello("one", authority)
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        for byte in message:
            await loop.sock_sendall(client, bytes((byte,)))
            await asyncio.sleep(0)
        # The ServerHello is a record of the type "handshake".
        assert (await asyncio.wait_for(loop.sock_recv(client, 1), 20)) == b"\x16"
    assert chooser.names == ["one"]


async def test_first_message_in_several_records(world: World, chooser: Chooser, authority: Authority) -> None:
    server = await world.serve(scheme, ssl=chooser)
    message, _ = hello("one", authority)
    body, records = message[5:], b""
    for at in range(0, len(body), 100):
        part = body[at : at + 100]
        records += message[:3] + len(part).to_bytes(2, "big") + part
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(records)
    assert await asyncio.wait_for(reader.read(1), 20) == b"\x16"
    writer.close()
    assert chooser.names == ["one"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16" + b"\xff" * 100_000,
        b"\x15\x03\x01\x00\x02\x01\x00",
    ],
)
async def test_garbage_ends_only_its_own_connection(
    world: World, chooser: Chooser, authority: Authority, data: bytes
) -> None:
    server = await world.serve(scheme, ssl=chooser, limits=Limits(head_timeout=1.0))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    with pytest.raises((asyncio.IncompleteReadError, OSError)):
        await asyncio.wait_for(reader.readexactly(1000), 20)
    writer.close()
    assert await ask(server, trusting(authority), "one")


@pytest.mark.parametrize("size", [0, 1, 5, 50])
async def test_client_that_leaves_in_its_first_message(
    world: World, chooser: Chooser, authority: Authority, size: int
) -> None:
    server = await world.serve(scheme, ssl=chooser)
    message, _ = hello("one", authority)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(message[:size])
    writer.write_eof()
    assert await end_of(reader) == b""
    writer.close()
    assert chooser.names == []
    await until(lambda: not server.connections)


async def test_silent_client_is_closed(world: World, chooser: Chooser, authority: Authority) -> None:
    server = await world.serve(scheme, ssl=chooser, limits=Limits(head_timeout=0.05))
    for sent in (b"", hello("one", authority)[0][:100]):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        assert await end_of(reader) == b""
        writer.close()


async def test_one_port_answers_both(world: World, chooser: Chooser, authority: Authority) -> None:
    server = await world.serve(scheme, ssl=chooser, sniff_tls=True)
    assert (await (await world.client(server)).ask(GET)).body == b"http"
    assert await ask(server, trusting(authority), "one")
    assert chooser.names == ["one"]
