"""The API server's port-forward that bypasses the kubelet; servers on this machine take the place of pods."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import cast

import pytest
import uvloop

from hatchway.cluster.api.connect import podforward
from hatchway.cluster.api.connect.podforward import ForwardLimits, PodForwarding
from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.sockets import new_stream
from hatchway.kube.streams.portforwardsession import ForwardError, PortForwardSession
from hatchway.kube.streams.spdyconnection import LEAST_KEPT, SharedRoom, SpdyConnection
from hatchway.wire.portforwardstreams import refusal_text, single_headers
from hatchway.wire.spdy import SpdySession
from hatchway.wire.spdyevents import LIMITS, DataReceived, Event, SpdyLimits, StreamAccepted, StreamReset
from hatchway.wire.spdyframes import UNIDIRECTIONAL
from tests.integration.kube.streams.peers import Client, echo, listening, pour, until
from tests.integration.kube.streams.sessions import (
    check_aborted_connections,
    check_half_close,
    check_pod_that_does_not_read,
)

POD = {"namespace": "shop", "name": "web", "uid": "uid-1"}


class Networks:
    """Gives sockets of this machine, in place of those of pods' networks.

    error: raised when a socket is requested. wait: whether no socket is available at once.
    narrow: whether the sockets have small buffers.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.wait = False
        self.narrow = False
        self.taken: list[socket.socket] = []
        self.quota = ClientQuota(5000, 4000)
        self.room = SharedRoom(100 << 20)

    def take_now(self, uid: str) -> socket.socket | None:
        return None if self.wait else self._take()

    async def take(self, uid: str) -> socket.socket:
        await asyncio.sleep(0)
        return self._take()

    async def take_ipv6(self, uid: str) -> socket.socket:
        await asyncio.sleep(0)
        return self._take(socket.AF_INET6)

    def _take(self, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        if self.error is not None:
            raise self.error
        sock = new_stream(family)
        sock.setblocking(False)
        if self.narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.taken.append(sock)
        return sock


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Use uvloop where it is installed, as the API server does."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
def networks() -> Networks:
    return Networks()


@contextlib.asynccontextmanager
async def serving(networks: Networks) -> AsyncIterator[int]:
    def make() -> asyncio.Protocol:
        return PodForwarding(networks, ForwardLimits(networks.quota, networks.room), POD).make_protocol()

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
async def session(networks: Networks) -> AsyncIterator[PortForwardSession]:
    async with serving(networks) as port:
        connection = SpdyConnection(server=False, tunnel=False)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
        found = PortForwardSession(connection, "default/web", single=True)
        yield found
        await found.aclose()
        await until(lambda: all(sock.fileno() < 0 for sock in networks.taken))
        assert networks.quota.held == 0


async def test_bytes_pass_both_ways_and_the_end_is_carried(session: PortForwardSession) -> None:
    async with listening(echo) as port:
        transport, client = await session.create_connection(lambda: Client(keep_open=True), port)
        sent = os.urandom(3_000_000)
        transport.write(sent)
        assert hashlib.sha256(await client.has(len(sent))).digest() == hashlib.sha256(sent).digest()
        transport.write_eof()
        await client.eof.wait()
        assert await client.lost is None
        assert session.connection_count == 0


async def test_half_close_leaves_the_other_direction_open(session: PortForwardSession) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first")
        writer.write_eof()
        assert await reader.read() == b"then"
        writer.close()

    await check_half_close(session)
    async with listening(greet) as other:
        transport, client = await session.create_connection(lambda: Client(keep_open=True), other)
        await client.eof.wait()
        assert client.data == b"first"
        transport.write(b"then")
        transport.write_eof()
        assert await client.lost is None


async def test_program_that_listens_on_ipv6_only(session: PortForwardSession) -> None:
    server = await asyncio.start_server(echo, "::1", 0)
    async with server:
        transport, client = await session.create_connection(Client, server.sockets[0].getsockname()[1])
        transport.write(b"hello")
        assert await client.has(5) == b"hello"
        transport.close()


async def test_refused_port_ends_its_connection_with_its_text(session: PortForwardSession) -> None:
    async with listening(echo) as port:
        transport, client = await session.create_connection(Client, port)
        first, refused = await session.create_connection(Client, 1)
        first.write(b"lost")
        error = await refused.lost
        assert isinstance(error, ForwardError) and "error forwarding port 1 to pod web, uid uid-1" in str(error)
        assert str(error).endswith("connection refused") and not refused.eof.is_set()
        transport.write(b"still here")
        assert await client.has(10) == b"still here"


@pytest.mark.parametrize("wait", [True, False])
async def test_pod_without_a_network_is_an_error_of_the_connection(
    session: PortForwardSession, networks: Networks, wait: bool
) -> None:
    networks.wait, networks.error = wait, OSError(errno.ENETDOWN, "the pod's network is gone")
    _, client = await session.create_connection(Client, 80)
    assert "network is down" in str(await client.lost)


async def test_an_unexpected_failure_does_not_use_up_a_connection(
    session: PortForwardSession, networks: Networks, caplog: pytest.LogCaptureFixture
) -> None:
    networks.wait, networks.error = True, RuntimeError("out of order")
    await session.create_connection(Client, 80)
    await until(lambda: "out of order" in caplog.text)
    assert networks.quota.held == 0


async def test_sockets_that_have_to_be_waited_for(session: PortForwardSession, networks: Networks) -> None:
    networks.wait = True
    async with listening(echo) as port:
        transport, client = await session.create_connection(Client, port)
        left, leaver = await session.create_connection(Client, port)
        left.abort()
        transport.write(b"hello")
        assert await client.has(5) == b"hello"
        assert await leaver.lost is None


async def test_reset_of_the_pod_behind_its_data_arrives(session: PortForwardSession) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with listening(cut) as port:
        transport, client = await session.create_connection(Client, port)
        transport.write(b"x")
        assert isinstance(await client.lost, ConnectionResetError)


async def test_reset_of_the_client_reaches_the_pod(session: PortForwardSession) -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        try:
            ended.set_result(f"an orderly end after {await reader.read()!r}")
        except ConnectionResetError:
            ended.set_result("a reset")
        writer.close()

    async with listening(watch) as port:
        transport, client = await session.create_connection(Client, port)
        await client.has(1)
        transport.abort()
        assert await ended == "a reset"


async def test_aborted_connections_do_not_affect_others(session: PortForwardSession) -> None:
    await check_aborted_connections(session)


async def test_client_that_does_not_read_holds_up_only_its_pod(session: PortForwardSession) -> None:
    written = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                written += 65536

    async with listening(flood) as port, listening(pour) as other:
        stalled, slow = await session.create_connection(Client, port)
        stalled.pause_reading()
        for _ in range(3):
            transport, lively = await session.create_connection(Client, other)
            transport.write(b"20000000\n")
            assert await lively.lost is None and len(lively.data) == 20_000_000
        # The flow-control window, one chunk on each side, and the kernel's buffers.
        assert written < 40_000_000 and not slow.data
        stalled.abort()


async def test_pod_that_does_not_read_holds_up_only_its_client(session: PortForwardSession) -> None:
    await check_pod_that_does_not_read(session)


async def test_data_before_both_ends_close_arrive(session: PortForwardSession) -> None:
    released = asyncio.Event()
    got: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await released.wait()
        got.set_result(len(await reader.read()))
        writer.close()

    async with listening(slow) as port:
        assert await session.check(5.0)
        transport, client = await session.create_connection(lambda: Client(keep_open=True), port)
        await client.eof.wait()
        sent = 0
        while not client.full:
            transport.write(bytes(65536))
            sent += 65536
            await asyncio.sleep(0)
        transport.write_eof()
        released.set()
        assert await got == sent


async def test_connection_that_is_accepted_late(session: PortForwardSession) -> None:
    """A listener whose backlog is full accepts the connection after room is made."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        before = [socket.socket() for _ in range(3)]
        for sock in before:
            sock.setblocking(False)
            sock.connect_ex(address)
        transport, client = await session.create_connection(Client, address[1])
        transport.write(b"hello")
        assert await session.check(5.0)
        loop = asyncio.get_running_loop()
        got = b""
        while got != b"hello":
            accepted, _ = await loop.sock_accept(listener)
            with contextlib.closing(accepted):
                ready = asyncio.ensure_future(loop.sock_recv(accepted, 5))
                await asyncio.wait({ready}, timeout=0.2)
                if ready.done():
                    got = ready.result()
                ready.cancel()
                await asyncio.wait({ready})
        for sock in before:
            sock.close()
        await client.lost


class Raw(asyncio.Protocol):
    """A client that writes SPDY frames as bytes."""

    def __init__(self, limits: SpdyLimits = LIMITS) -> None:
        self.session = SpdySession(server=False, limits=limits)
        self.events: list[Event] = []
        self.came = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.events += self.session.receive_data(data)
        self.came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def flush(self) -> None:
        self.transport.writelines(self.session.data_to_send())

    async def has(self, kind: type, stream: int) -> Event:
        while True:
            for event in self.events:
                if isinstance(event, kind) and event.stream_id == stream:  # type: ignore[attr-defined]
                    return event
            self.came.clear()
            await self.came.wait()


async def test_frames_on_the_connection(networks: Networks) -> None:
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(networks))
        pod = await stack.enter_async_context(listening(echo))
        transport, raw = await asyncio.get_running_loop().create_connection(Raw, "127.0.0.1", port)
        stack.callback(transport.abort)
        strange = raw.session.open_stream([(b"port", b"99999")])
        unnamed = raw.session.open_stream([])
        good = raw.session.open_stream(single_headers(pod))
        raw.session.send_data(good, b"hello", fin=True)
        raw.flush()
        for stream in (strange, unnamed):
            refusal = await raw.has(StreamAccepted, stream)
            assert isinstance(refusal, StreamAccepted) and "is no port" in refusal_text(refusal.headers)
            await raw.has(StreamReset, stream)
        answer = await raw.has(DataReceived, good)
        assert isinstance(answer, DataReceived) and answer.data == b"hello"
        assert not any(isinstance(event, StreamAccepted) and event.stream_id == good for event in raw.events)
        raw.transport.write(b"\x80\x03\x00\x01\xff\xff\xff\xff")  # a control frame of 16 MiB
        await raw.lost.wait()


async def test_unidirectional_stream_is_refused(networks: Networks, caplog: pytest.LogCaptureFixture) -> None:
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(networks))
        pod = await stack.enter_async_context(listening(echo))
        transport, raw = await asyncio.get_running_loop().create_connection(Raw, "127.0.0.1", port)
        stack.callback(transport.abort)
        stream = raw.session.open_stream(single_headers(pod))
        settings, opening = raw.session.data_to_send()
        one_way = bytearray(opening)
        one_way[4] |= UNIDIRECTIONAL
        raw.transport.writelines([settings, one_way])
        await raw.has(StreamReset, stream)
        assert not networks.taken and not caplog.records


async def test_reset_of_a_stream_cancels_its_connection_attempt(networks: Networks) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        full = [socket.socket() for _ in range(3)]
        for sock in full:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        async with serving(networks) as port:
            transport, raw = await asyncio.get_running_loop().create_connection(Raw, "127.0.0.1", port)
            stream = raw.session.open_stream(single_headers(listener.getsockname()[1]))
            raw.flush()
            await until(lambda: bool(networks.taken))
            assert networks.taken[0].fileno() >= 0
            raw.session.reset(stream)
            raw.flush()
            # This deadline is far below the timeout of connections.
            async with asyncio.timeout(5):
                await until(lambda: networks.taken[0].fileno() < 0)
            assert networks.quota.held == 0
            transport.abort()
        for sock in full:
            sock.close()


@pytest.mark.parametrize("wait", [True, False])
async def test_connections_to_a_namespace_are_limited(
    session: PortForwardSession, networks: Networks, wait: bool
) -> None:
    networks.wait, networks.quota = wait, ClientQuota(10, 2)
    async with listening(echo) as port, serving(networks) as other:
        connection = SpdyConnection(server=False, tunnel=False)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", other)
        second = PortForwardSession(connection, "default/web", single=True)
        opened = [await second.create_connection(Client, port) for _ in range(3)]
        assert "too many forwarded connections" in str(await opened[2][1].lost)
        opened[0][0].abort()
        await until(lambda: networks.quota.held == 1)
        transport, client = await second.create_connection(Client, port)
        transport.write(b"hello")
        assert await client.has(5) == b"hello"
        await second.aclose()
        await until(lambda: networks.quota.held == 0)


async def test_little_is_buffered_for_a_client_that_does_not_open_its_windows(networks: Networks) -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()

    made: list[SpdyConnection] = []

    def make() -> asyncio.Protocol:
        made.append(
            cast(
                SpdyConnection,
                PodForwarding(networks, ForwardLimits(networks.quota, networks.room), POD).make_protocol(),
            )
        )
        return made[0]

    async with contextlib.AsyncExitStack() as stack:
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        pod = await stack.enter_async_context(listening(flood))
        limits = SpdyLimits(window=1000)
        transport, raw = await asyncio.get_running_loop().create_connection(lambda: Raw(limits), "127.0.0.1", port)
        stack.callback(transport.abort)
        raw.flush()
        streams = [raw.session.open_stream(single_headers(pod)) for _ in range(20)]
        raw.flush()
        for stream in streams:
            await raw.has(DataReceived, stream)
        session = made[0].session
        await until(lambda: all(session.unsent(stream) for stream in streams))
        assert sum(map(session.unsent, streams)) <= 20 * 4096
        assert sum(len(event.data) for event in raw.events if isinstance(event, DataReceived)) == 20 * 1000
        for stream in streams:
            raw.session.consumed(stream, 1000)
        raw.flush()
        await until(
            lambda: sum(len(event.data) for event in raw.events if isinstance(event, DataReceived)) >= 20 * 1900
        )


@contextlib.asynccontextmanager
async def _ignoring() -> AsyncIterator[int]:
    """Yield the port of a server that sends a greeting and then does not read."""
    writers: list[asyncio.StreamWriter] = []

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        cast(asyncio.Transport, writer.transport).pause_reading()
        writer.write(b"here")

    async with listening(ignore) as port:
        yield port
        for writer in writers:
            writer.transport.abort()


async def test_room_for_pods_that_do_not_read_is_shared(networks: Networks) -> None:
    networks.room, networks.narrow = SharedRoom(3 * LEAST_KEPT), True
    made: list[SpdyConnection] = []

    def make() -> asyncio.Protocol:
        found = PodForwarding(networks, ForwardLimits(networks.quota, networks.room), POD).make_protocol()
        made.append(cast(SpdyConnection, found))
        return found

    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        server = await loop.create_server(make, "127.0.0.1", 0)
        stack.callback(server.close)
        pod = await stack.enter_async_context(_ignoring())
        other = await stack.enter_async_context(listening(echo))
        port = server.sockets[0].getsockname()[1]
        clients = [(await loop.create_connection(Raw, "127.0.0.1", port))[1] for _ in range(3)]
        # The data of each connection that do not fit into the kernel's buffers are held in this process.
        while not made[0].stalled:
            for _ in range(10):
                stream = clients[0].session.open_stream(single_headers(pod))
                clients[0].session.send_data(stream, bytes(250_000))
            clients[0].flush()
            await asyncio.sleep(0.01)
        assert networks.room.held < 4 * LEAST_KEPT
        # The other connections continue.
        stream = clients[1].session.open_stream(single_headers(other))
        clients[1].session.send_data(stream, b"hello")
        clients[1].flush()
        await clients[1].has(DataReceived, stream)
        clients[0].transport.abort()
        await until(lambda: networks.room.held == 0)
        await until(lambda: networks.quota.held == 1)
        clients[1].transport.abort()
        await until(lambda: networks.quota.held == 0)
        clients[2].transport.abort()


async def test_connection_of_a_client_that_has_gone_does_not_wait_for_its_pod_for_ever(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(podforward, "_LAST_SECONDS", 0.2)
    networks.narrow = True
    async with _ignoring() as pod, serving(networks) as port:
        transport, raw = await asyncio.get_running_loop().create_connection(Raw, "127.0.0.1", port)
        streams = [raw.session.open_stream(single_headers(pod)) for _ in range(5)]
        raw.flush()
        for stream in streams:
            await raw.has(DataReceived, stream)
        for stream in streams:
            raw.session.send_data(stream, bytes(250_000), fin=True)
        raw.flush()
        await until(lambda: networks.room.held > 0)
        transport.close()
        await until(lambda: networks.quota.held == networks.room.held == 0)
