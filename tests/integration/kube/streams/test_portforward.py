"""Port-forward sessions with an independent server, over a WebSocket and over plain SPDY."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
import uvloop

from hatchway.errors import ApiError
from hatchway.kube.connection import Connection
from hatchway.kube.serversettings import Settings
from hatchway.kube.streams.portforwardsession import ForwardError, PortForwardSession
from tests.integration.kube.streams.kubelet import OwnServer
from tests.integration.kube.streams.peers import Client, count, echo, listening, pour, until
from tests.integration.kube.streams.sessions import (
    check_aborted_connections,
    check_half_close,
    check_pod_that_does_not_read,
)
from tests.streamserver import StreamServer


def connection_to(server: StreamServer) -> Connection:
    return Connection.fixed(Settings(f"http://127.0.0.1:{server.port}", context="", namespace="default", user=""))


@contextlib.asynccontextmanager
async def session_with(server: StreamServer) -> AsyncIterator[PortForwardSession]:
    connection = connection_to(server)
    session = await PortForwardSession.open(connection, "default", "web")
    try:
        yield session
    finally:
        await session.aclose()
        await connection.aclose()


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Run on both loops: the door and `hatchway forward` use uvloop, other commands asyncio's own loop."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture(params=["websocket", "spdy"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[StreamServer]:
    kinds = {"websocket": request.param == "websocket", "spdy": request.param == "spdy"}
    async with StreamServer(**kinds) as found:
        yield found


async def test_bytes_pass_both_ways_and_the_end_is_carried(server: StreamServer) -> None:
    async with listening(echo) as port, session_with(server) as session:
        transport, client = await session.create_connection(lambda: Client(keep_open=True), port)
        transport.write(b"hello ")
        transport.write(bytearray(b"there"))
        assert await client.has(11) == b"hello there"
        transport.write_eof()
        await client.eof.wait()
        assert await client.lost is None
        assert session.connection_count == 0


async def test_half_close_leaves_the_other_direction_open(server: StreamServer) -> None:
    async with session_with(server) as session:
        await check_half_close(session)


async def test_refused_port_ends_its_connection_with_the_servers_text(server: StreamServer) -> None:
    async with listening(echo) as port, session_with(server) as session:
        transport, client = await session.create_connection(Client, port)
        _, refused = await session.create_connection(Client, 1)
        error = await refused.lost
        assert isinstance(error, ForwardError) and "error forwarding port 1 to pod" in str(error)
        assert not refused.eof.is_set()
        transport.write(b"still here")
        assert await client.has(10) == b"still here"


async def test_aborted_connections_do_not_affect_others(server: StreamServer) -> None:
    async with session_with(server) as session:
        await check_aborted_connections(session)
        assert session.connection_count == 0


async def test_writer_is_told_to_pause_while_the_server_does_not_read(server: StreamServer) -> None:
    released = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        await count(reader, writer)

    async with listening(slow) as port, session_with(server) as session:
        transport, client = await session.create_connection(Client, port)
        sent = 0
        while not client.full:
            transport.write(bytes(65536))
            sent += 65536
            await asyncio.sleep(0)
            assert sent < 100_000_000
        released.set()
        await client.resumed.wait()
        transport.write_eof()
        assert await client.has(len(str(sent))) == b"%d" % sent


async def test_reader_that_pauses_stalls_the_session_within_bounds_and_nothing_is_lost(server: StreamServer) -> None:
    async with listening(pour) as port, session_with(server) as session:
        size = 30_000_000
        transport, client = await session.create_connection(Client, port)
        transport.pause_reading()
        transport.write(b"%d\n" % size)
        await until(lambda: session.stalled)
        assert not client.data
        transport.resume_reading()
        assert await client.lost is None
        assert len(client.data) == size and not session.stalled


async def test_end_of_the_session_ends_its_connections(server: StreamServer) -> None:
    async with listening(echo) as port, session_with(server) as session:
        _, client = await session.create_connection(Client, port)
        await asyncio.sleep(0)
        server.cut()
        assert isinstance(await client.lost, ConnectionError)
        await session.closed
        assert not session.can_connect
        with pytest.raises(ConnectionError):
            session.connect(port)


async def test_protocol_that_fails_ends_only_its_own_connection(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Client):
        def data_received(self, data: bytes) -> None:
            raise ValueError("mine")

        def eof_received(self) -> bool:
            raise ValueError("mine")

    async with listening(echo) as port, session_with(server) as session:
        transport, client = await session.create_connection(Client, port)
        first, failing = await session.create_connection(Failing, port)
        second, ending = await session.create_connection(Failing, port)
        first.write(b"x")
        second.write_eof()
        await asyncio.gather(failing.lost, ending.lost)
        transport.write(b"y")
        assert await client.has(1) == b"y"
        assert caplog.text.count("a protocol of a stream failed") == 2


async def test_bytes_before_an_error_are_read_before_it(server: StreamServer) -> None:
    async with listening(pour) as port, session_with(server) as session:
        transport, client = await session.create_connection(Client, port)
        transport.pause_reading()
        transport.write(b"%d\n" % 300_000)
        await until(lambda: server.has_ended("data"))
        assert await session.check(5.0)
        server.cut()
        await session.closed
        transport.resume_reading()
        assert await client.lost is None
        assert len(client.data) == 300_000


async def test_check_succeeds_if_the_server_answers_pings(server: StreamServer) -> None:
    async with session_with(server) as session:
        assert await session.check(5.0)


async def test_session_whose_server_answers_no_pings_is_closed(server: StreamServer) -> None:
    async with session_with(server) as session:
        await until(lambda: bool(server.sessions))
        server.sessions[0].answers_pings = False
        assert not await session.check(0.05)
        assert isinstance(await session.closed, TimeoutError)


async def test_server_that_knows_only_spdy_is_remembered() -> None:
    async with StreamServer(websocket=False) as server:
        connection = connection_to(server)
        for _ in range(2):
            await (await PortForwardSession.open(connection, "default", "web")).aclose()
        await connection.aclose()
        assert [method for method, _, _ in server.requests] == ["GET", "POST", "POST"]


async def test_websocket_is_requested_first_like_kubectl() -> None:
    async with StreamServer() as server, session_with(server):
        ((method, path, headers),) = server.requests
        assert (method, path) == ("GET", "/api/v1/namespaces/default/pods/web/portforward")
        assert headers["sec-websocket-protocol"] == "SPDY/3.1+portforward.k8s.io"


@pytest.mark.parametrize("spdy", [False, True])
async def test_a_refused_protocol_is_replaced_by_another(spdy: bool) -> None:
    """If the offered protocol is not accepted, another one is used: some proxies accept only WebSockets."""
    async with listening(echo) as port, OwnServer(offers=True, spdy=spdy).serving() as server:
        connection = Connection.fixed(Settings(server.url, context="", namespace="default", user=""))
        session = await PortForwardSession.open(connection, "default", "web")
        transport, client = await session.create_connection(Client, port)
        transport.write(b"hello")
        assert await client.has(5) == b"hello"
        assert server.upgrades == ["websocket", "spdy/3.1"]
        transport.close()
        await session.aclose()
        await connection.aclose()


def status(code: int, reason: str, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "code": code, "reason": reason, "message": message}).encode()


async def test_session_through_a_proxy(server: StreamServer) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    async with listening(proxy) as proxy_port, listening(echo) as port:
        settings = Settings(
            "http://api.example:80", context="", namespace="default", user="", proxy=f"http://127.0.0.1:{proxy_port}"
        )
        connection = Connection.fixed(settings)
        session = await PortForwardSession.open(connection, "default", "web")
        transport, client = await session.create_connection(Client, port)
        transport.write(b"through")
        assert await client.has(7) == b"through"
        assert set(asked) == {b"CONNECT api.example:80 HTTP/1.1"}
        await session.aclose()
        await connection.aclose()


async def test_unreachable_server_is_a_temporary_error() -> None:
    async with StreamServer() as server:
        connection = connection_to(server)
    with pytest.raises(ApiError, match="connection refused") as caught:
        await PortForwardSession.open(connection, "default", "web")
    assert caught.value.code == 503 and caught.value.passing
    await connection.aclose()


async def test_a_401_is_not_followed_by_another_protocol() -> None:
    async with StreamServer() as server:
        server.refusals["GET", "/portforward"] = status(401, "Unauthorized", "Unauthorized")
        connection = connection_to(server)
        with pytest.raises(ApiError) as caught:
            await PortForwardSession.open(connection, "default", "web")
        assert caught.value.code == 401
        assert {method for method, _, _ in server.requests} == {"GET"}
        await connection.aclose()


async def test_missing_pod_is_the_servers_error_at_once() -> None:
    async with StreamServer() as server:
        server.refusals["GET", "/portforward"] = status(404, "NotFound", 'pods "web" not found')
        connection = connection_to(server)
        with pytest.raises(ApiError) as caught:
            await PortForwardSession.open(connection, "default", "web")
        await connection.aclose()
        assert (caught.value.code, caught.value.message) == (404, 'pods "web" not found')
        assert len(server.requests) == 1


async def test_user_who_may_only_create_gets_through_by_spdy() -> None:
    async with StreamServer() as server:
        server.refusals["GET", "/portforward"] = status(403, "Forbidden", "cannot get")
        async with session_with(server) as session:
            assert session.can_connect


async def test_forbidden_names_the_right_that_is_missing() -> None:
    async with StreamServer() as server:
        server.refusals["GET", "/portforward"] = status(403, "Forbidden", "cannot get")
        server.refusals["POST", "/portforward"] = status(403, "Forbidden", "cannot create pods/portforward")
        connection = connection_to(server)
        with pytest.raises(ApiError, match="cannot create pods/portforward"):
            await PortForwardSession.open(connection, "default", "web")
        await connection.aclose()


async def test_connection_that_is_not_read_holds_up_no_other_where_the_server_obeys_windows() -> None:
    async with listening(pour) as port, OwnServer().serving() as server:
        connection = Connection.fixed(Settings(server.url, context="", namespace="default", user=""))
        session = await PortForwardSession.open(connection, "default", "web")
        size = 20_000_000
        stalled, slow = await session.create_connection(Client, port)
        stalled.pause_reading()
        stalled.write(b"%d\n" % size)
        for _ in range(3):
            transport, lively = await session.create_connection(Client, port)
            transport.write(b"%d\n" % size)
            assert await lively.lost is None
            assert len(lively.data) == size
        assert session.has_flow_control and not session.stalled and not slow.data
        stalled.resume_reading()
        assert await slow.lost is None
        assert len(slow.data) == size
        await session.aclose()
        await connection.aclose()


async def test_pod_that_does_not_read_holds_up_only_its_writer_where_the_server_obeys_windows() -> None:
    async with OwnServer().serving() as server:
        connection = Connection.fixed(Settings(server.url, context="", namespace="default", user=""))
        session = await PortForwardSession.open(connection, "default", "web")
        await check_pod_that_does_not_read(session)
        await session.aclose()
        await connection.aclose()
