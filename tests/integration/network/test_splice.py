"""The service proxy's data path on loopback: half-close, backpressure, resets, idle flows."""

# ruff: noqa: ASYNC110  the listeners report no events

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hatchway.cluster.network.balancer import Balancer
from hatchway.cluster.network.datagrams import UdpListener
from hatchway.cluster.network.servicerules import Endpoint, Rule
from hatchway.cluster.network.splice import TcpListener

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST = "127.0.0.1"


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def frontend(handler: Handler) -> AsyncIterator[tuple[int, TcpListener]]:
    server = await asyncio.start_server(handler, HOST, 0)
    listener = TcpListener(Balancer(Rule("web", (Endpoint(HOST, server.sockets[0].getsockname()[1]),))))
    port = free_port()
    await listener.listen(HOST, port)
    async with server:
        yield port, listener
        listener.abort()


async def test_each_direction_ends_by_itself() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello ")
        writer.write(await reader.read())
        writer.close()

    async with frontend(handler) as (port, listener):
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await reader.readexactly(6) == b"hello "
        writer.write(b"x" * 3_000_000)
        writer.write_eof()
        assert await reader.read() == b"x" * 3_000_000
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(10):
            while listener.busy:
                await asyncio.sleep(0)


async def test_a_slow_reader_holds_the_writer_back() -> None:
    release = asyncio.Event()
    received: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        received.append(len(await reader.read()))
        writer.close()

    async with frontend(handler) as (port, _):
        sock = socket.create_connection((HOST, port))
        sock.setblocking(False)
        chunk, sent, full = b"x" * 65536, 0, 0
        # The kernel's buffers fill up; then nothing moves for many turns of the loop.
        while full < 200:
            try:
                sent += sock.send(chunk)
                full = 0
            except BlockingIOError:
                full += 1
            await asyncio.sleep(0)
            assert sent < 100 << 20
        release.set()
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(20):
            assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""
        sock.close()
        assert received == [sent]


async def test_resets_go_through_and_abort_resets() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with frontend(handler) as (port, listener):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

        reader, writer = await asyncio.open_connection(HOST, port)
        async with asyncio.timeout(10):
            while not listener.busy:
                await asyncio.sleep(0)
        listener.abort()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)


async def test_without_a_listening_endpoint_the_client_is_reset() -> None:
    listener = TcpListener(Balancer(Rule("web", (Endpoint(HOST, free_port()),))))
    port = free_port()
    await listener.listen(HOST, port)
    reader, writer = await asyncio.open_connection(HOST, port)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    listener.close()


async def test_datagram_flows_end_when_idle_and_move_when_their_endpoint_goes() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for sock in (one, two, client):
            sock.setblocking(False)
            sock.bind((HOST, 0))
        rules = [Rule("dns", (Endpoint(HOST, sock.getsockname()[1]),)) for sock in (one, two)]
        listener = UdpListener(Balancer(rules[0]), idle_seconds=0.05)
        port = free_port(socket.SOCK_DGRAM)
        await listener.listen(HOST, port)
        async with asyncio.timeout(10):
            client.sendto(b"a", (HOST, port))
            data, flow = await loop.sock_recvfrom(one, 100)
            assert data == b"a"
            one.sendto(b"A", flow)
            assert await loop.sock_recvfrom(client, 100) == (b"A", (HOST, port))
            while listener.flows:
                await asyncio.sleep(0.01)
            client.sendto(b"b", (HOST, port))
            assert (await loop.sock_recvfrom(one, 100))[0] == b"b"
            listener.balancer.update(rules[1])
            listener.endpoints_changed()
            client.sendto(b"c", (HOST, port))
            assert (await loop.sock_recvfrom(two, 100))[0] == b"c"
        listener.close()
