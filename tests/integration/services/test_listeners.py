"""The service proxy's data path on loopback: half-close, backpressure, resets, idle flows."""

# ruff: noqa: ASYNC110  the listeners report no events

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest
import uvloop

from hatchway.cluster import sockets
from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.services import joinedsockets, socketpoll
from hatchway.cluster.services.balancer import Balancer
from hatchway.cluster.services.endpointpools import PortEndpoints, ServiceEndpoint
from hatchway.cluster.services.servicerules import ServiceRule
from hatchway.cluster.services.socketpoll import open_poll
from hatchway.cluster.services.tcp import TcpListener
from hatchway.cluster.services.udp import UdpListener
from tests.freeports import free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST = "127.0.0.1"


@pytest.fixture(params=[sys.platform, "other"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test as on this platform, and as on a platform without epoll(7)."""
    monkeypatch.setattr(socketpoll, "sys", SimpleNamespace(platform=request.param))


@asynccontextmanager
async def frontend(handler: Handler, quota: ClientQuota | None = None) -> AsyncIterator[tuple[int, TcpListener]]:
    server = await asyncio.start_server(handler, HOST, 0)
    rule = ServiceRule("web", PortEndpoints.of(ServiceEndpoint(HOST, server.sockets[0].getsockname()[1])))
    port = free_port()
    listener = TcpListener(Balancer(rule), sockets.listen(HOST, port), poll := open_poll(), quota)
    async with server:
        yield port, listener
        listener.abort()
    poll.close()


@pytest.mark.usefixtures("platform")
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


@pytest.mark.usefixtures("platform")
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
        # The kernel's buffers fill up; then no bytes are sent for many turns of the loop.
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


async def test_a_paused_client_that_ends_costs_no_processor_time() -> None:
    """While one side is not read, its end (EPOLLHUP) must not wake the event loop repeatedly."""
    release = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The direction to the client ends first.
        writer.write_eof()
        await release.wait()
        received = 0
        while data := await reader.read(1 << 16):
            received += len(data)
        assert received == sent
        writer.close()

    async with frontend(handler) as (port, listener):
        sock = socket.create_connection((HOST, port))
        sock.setblocking(False)
        sent, full = 0, 0
        while full < 200:
            try:
                sent += sock.send(b"x" * 65536)
                full = 0
            except BlockingIOError:
                full += 1
            await asyncio.sleep(0)
        sock.close()
        # A busy loop would use CPU time in every round, other work of this process only in some.
        for _ in range(5):
            before = time.process_time()
            await asyncio.sleep(0.3)
            spent = time.process_time() - before
            if spent < 0.2:
                break
        assert spent < 0.2
        release.set()
        async with asyncio.timeout(20):
            while listener.busy:
                await asyncio.sleep(0)


@pytest.mark.usefixtures("platform")
async def test_resets_are_forwarded_and_abort_resets_connections() -> None:
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
    rule = ServiceRule("web", PortEndpoints.of(ServiceEndpoint(HOST, free_port())))
    port = free_port()
    listener = TcpListener(Balancer(rule), sockets.listen(HOST, port), poll := open_poll())
    reader, writer = await asyncio.open_connection(HOST, port)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    listener.close()
    poll.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_clients_that_reset_free_their_quota(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Clients reset before, while or after they are joined with an endpoint."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def come_and_go(port: int, turns: int) -> None:
        _, writer = await asyncio.open_connection(HOST, port)
        for _ in range(turns):
            await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def run() -> None:
        quota = ClientQuota(8, 4)
        async with frontend(greet, quota) as (port, listener):
            for turns in (*range(12), *range(12)):
                await come_and_go(port, turns)
                async with asyncio.timeout(10):
                    while listener.busy:
                        await asyncio.sleep(0)
            pairs = [await asyncio.open_connection(HOST, port) for _ in range(4)]
            async with asyncio.timeout(10):
                assert [await reader.readexactly(5) for reader, _ in pairs] == [b"hello"] * 4
            for _, writer in pairs:
                writer.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


async def test_datagram_flows_end_when_idle_and_get_a_new_endpoint_after_a_removal() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for sock in (one, two, client):
            sock.setblocking(False)
            sock.bind((HOST, 0))
        rules = [
            ServiceRule("dns", PortEndpoints.of(ServiceEndpoint(HOST, sock.getsockname()[1]))) for sock in (one, two)
        ]
        port = free_port(socket.SOCK_DGRAM)
        listener = UdpListener(Balancer(rules[0]), sockets.datagram(HOST, port), idle_seconds=0.05)
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


async def test_many_clients_that_do_not_read_cost_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joinedsockets, "MOST_LEFT", 1 << 16)
    release = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # This is more than the buffers of the kernel can hold.
        writer.write(b"x" * (8 << 20))
        await release.wait()
        writer.close()

    async with frontend(handler) as (port, listener):
        clients = []
        for _ in range(40):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((HOST, port))
            clients.append(sock)
            await asyncio.sleep(0)
        still, last = 0, -1
        while still < 200:
            still, last = (still + 1, last) if joinedsockets.leftovers() == last else (0, joinedsockets.leftovers())
            await asyncio.sleep(0)
        # The limit may be exceeded by one whole buffer, and after that by 4096 bytes for each client.
        assert 0 < last < (1 << 16) + (1 << 17) + 40 * 4096
        for sock in clients:
            sock.close()
        release.set()
        async with asyncio.timeout(20):
            while listener.busy:
                await asyncio.sleep(0)
    assert joinedsockets.leftovers() == 0
