"""TLS towards clients and upstreams, client certificates, and both protocols on one port."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Decision, RequestHead, Respond
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.wire import GET, OK, World, forward, until


def who(head: RequestHead) -> Decision:
    certificate = head.peer.certificate
    assert head.peer.address is not None and head.peer.address[0] == "127.0.0.1"
    return Respond(200, [], f"{head.peer.scheme} {len(certificate) if certificate else 0}".encode())


async def test_the_routing_function_gets_the_client_certificate(world: World, authority: Authority) -> None:
    context = authority.server()
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(authority.file)
    server = await world.serve(who, ssl=context)
    with_one = await world.client(server, authority.client(certificate=True))
    assert (await with_one.ask(GET)).body == b"https %d" % len(authority.client_der)
    without = await world.client(server, authority.client())
    assert (await without.ask(GET)).body == b"https 0"


async def test_a_certificate_of_another_authority_is_refused(
    world: World, authority: Authority, stranger: Authority
) -> None:
    context = authority.server()
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(authority.file)
    server = await world.serve(who, ssl=context)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        client = await world.client(server, stranger.client(certificate=True, trusts=authority))
        await client.ask(GET)


async def test_one_port_answers_both(world: World, authority: Authority) -> None:
    server = await world.serve(who, ssl=authority.server(), sniff_tls=True)
    for _ in range(2):
        assert (await (await world.client(server)).ask(GET)).body == b"http 0"
        assert (await (await world.client(server, authority.client())).ask(GET)).body == b"https 0"


async def test_a_silent_client_of_a_shared_port_is_closed(world: World, authority: Authority) -> None:
    server = await world.serve(who, ssl=authority.server(), sniff_tls=True, limits=Limits(head_timeout=0.05))
    client = await world.client(server)
    assert await client.rest() == b""


async def test_a_shared_port_survives_garbage(world: World, authority: Authority) -> None:
    server = await world.serve(who, ssl=authority.server(), sniff_tls=True)
    broken = await world.client(server)
    broken.send(b"\x16garbage, not a handshake")
    await broken.rest()
    assert (await (await world.client(server)).ask(GET)).status == 200


async def test_both_protocols_on_a_port_need_a_tls_context(world: World) -> None:
    with pytest.raises(ValueError, match="needs ssl"):
        await world.serve(who, sniff_tls=True)


async def test_upstreams_may_speak_tls(world: World, authority: Authority) -> None:
    backend = await world.answering(OK, context=authority.server())
    client = await world.client(await world.serve(forward(backend.upstream(authority.client(), "localhost"))))
    for _ in range(2):
        assert (await client.ask(GET)).body == b"ok"
    assert backend.connections == 1


async def test_an_upstream_that_cannot_be_verified_is_an_error(
    world: World, authority: Authority, stranger: Authority
) -> None:
    backend = await world.answering(OK, context=authority.server())
    client = await world.client(await world.serve(forward(backend.upstream(stranger.client(), "localhost"))))
    answer = await client.ask(GET)
    assert (answer.status, answer.get(b"x-stage")) == (503, b"tls")
    assert b"verify" in answer.body


async def test_tls_to_an_upstream_that_speaks_none(world: World, insecure: ssl.SSLContext) -> None:
    backend = await world.answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    plain = await asyncio.start_server(_hello, "127.0.0.1", 0)
    backend.port = plain.sockets[0].getsockname()[1]
    client = await world.client(await world.serve(forward(backend.upstream(insecure))))
    answer = await client.ask(GET)
    assert (answer.status, answer.get(b"x-stage")) == (503, b"tls")
    plain.close()


async def _hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 hello\r\n")
    await reader.read(1)
    writer.close()


async def test_a_tls_client_that_disconnects_ends_the_upstream(world: World, authority: Authority) -> None:
    backend = await world.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na")
    server = await world.serve(forward(backend.upstream()), ssl=authority.server())
    client = await world.client(server, authority.client())
    client.send(GET)
    await client.reader.readuntil(b"\r\n\r\n")
    client.writer.close()
    async with asyncio.timeout(10):
        await backend.ended.wait()
    await until(lambda: server.connections == 0)


async def test_large_bodies_over_tls(world: World, authority: Authority, insecure: ssl.SSLContext) -> None:
    size = 8 * 1024 * 1024
    backend = await world.answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size, context=authority.server()
    )
    server = await world.serve(forward(backend.upstream(insecure)), ssl=authority.server())
    client = await world.client(server, authority.client())
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(size // 65536):
        client.send(b"y" * 65536)
        await client.writer.drain()
    assert len((await client.response()).body) == size
    assert len(backend.requests[0].body) == size


@pytest.mark.parametrize("sniff", [False, True], ids=["https", "shared"])
async def test_a_client_that_hangs_up_during_the_handshake_is_no_error(
    world: World, authority: Authority, caplog: pytest.LogCaptureFixture, sniff: bool
) -> None:
    server = await world.serve(who, ssl=authority.server(), sniff_tls=sniff)
    client = await world.client(server)
    client.send(b"\x16\x03\x01\x02")
    client.writer.write_eof()
    assert await client.rest() == b""
    assert (await (await world.client(server, authority.client())).ask(GET)).body == b"https 0"
    assert not caplog.records


async def test_an_upstream_that_hangs_up_during_the_handshake(
    world: World, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.close()

    backend = await world.backend(lambda backend: hang_up)
    client = await world.client(await world.serve(forward(backend.upstream(authority.client(), "localhost"))))
    assert (await client.ask(GET)).status in (502, 503)
    assert not caplog.records
