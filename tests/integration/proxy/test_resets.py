"""A reset by a peer is noticed at once, in every phase of an exchange, and leaves nothing behind.

HATCHWAY_SOAK: the number of resets of each kind (default 20; 2,000 for a soak test). From 1,000 on, memory is checked.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import socket
import ssl
import struct
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from hatchway.proxy.limits import Limits
from hatchway.proxy.resets import ResetWatch
from hatchway.proxy.routing import App, Decision, Forward, RequestHead, Respond, Upstream
from hatchway.proxy.server import Server
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.resetting import BIG, reset
from tests.integration.proxy.wire import World, forward, refuse, until

TIMES = int(os.environ.get("HATCHWAY_SOAK", "20"))
AT_ONCE = 20
# Long timeouts, so that only resets end connections.
LIMITS = Limits(head_timeout=60, close_timeout=60, half_closed_timeout=60, upstream_tls_timeout=60)
HOST = b" HTTP/1.1\r\nHost: a\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def engine_tasks() -> list[str]:
    """Return the names of the tasks that the engine has started for connections."""
    names = ("connection", "dial", "application", "routing function", "reconsider", "explain an error")
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() in names]


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def app(scope: object, receive: Callable[[], Awaitable[dict[str, object]]], send: object) -> None:
    """Send a body without end, until the client has disconnected."""
    assert callable(send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    except OSError:
        return


async def listening_app(scope: object, receive: Callable[[], Awaitable[dict[str, object]]], send: object) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass
class Ground:
    """The server under test. tls: the context of its clients; None if it does not speak TLS."""

    server: Server
    tls: ssl.SSLContext | None = None

    async def client(self) -> socket.socket:
        """Connect a client, with its TLS handshake."""
        sock = self.raw()
        if self.tls is None:
            return sock
        return await asyncio.to_thread(self.tls.wrap_socket, sock, server_hostname="localhost")

    def raw(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.connect(("127.0.0.1", self.server.port))
        return sock


@pytest.fixture(scope="module", params=["plain", "tls"])
def backend(request: pytest.FixtureRequest, authority: Authority) -> Iterator[tuple[int, bool]]:
    """Run the backend; yield its port, and whether it speaks TLS."""
    secure = request.param == "tls"
    command = [sys.executable, "-m", "tests.integration.proxy.resetting"]
    if secure:
        command.append(str(authority.file.with_name("server.pem")))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), secure
        process.kill()


@pytest.fixture
async def ground(backend: tuple[int, bool], world: World, authority: Authority) -> Ground:
    port, secure = backend

    async def connect() -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return sock

    routed = forward(Upstream("backend", connect, authority.client() if secure else None, "localhost"))

    def route(head: RequestHead) -> Decision:
        if head.path == b"/app":
            return App(app)
        if head.path == b"/listening":
            return App(listening_app)
        return routed(head)  # type: ignore[return-value]

    server = await world.serve(route, limits=LIMITS, ssl=authority.server() if secure else None)
    return Ground(server, authority.client() if secure else None)


async def _settled(ground: Ground, client: socket.socket, sent: bytes, wait_for: str) -> None:
    """Wait until the exchange is in the wanted phase ("answer" or "more" of CLIENT_PHASES)."""
    if wait_for == "answer":
        await asyncio.to_thread(client.recv, 12)
    elif wait_for == "more":
        await asyncio.sleep(0.05)


async def _run(one: Callable[[], Awaitable[None]], ground: Ground) -> None:
    """Run a function TIMES times, then wait until the server has no more objects and descriptors than before."""
    await one()  # The first run may make objects that exist until the end of the process.
    watch = ResetWatch.of(asyncio.get_running_loop())
    await until(lambda: ground.server.connections == 0)
    await until(lambda: not engine_tasks())
    before, memory = descriptors(), resident()
    for _ in range(max(1, TIMES // AT_ONCE)):
        await asyncio.gather(*(one() for _ in range(min(TIMES, AT_ONCE))))
        await until(lambda: ground.server.connections == 0)
        await until(lambda: descriptors() <= before)
    await until(lambda: not engine_tasks())
    await until(lambda: len(watch) == 0)
    if TIMES >= 1000:
        assert resident() - memory < 10_000_000


CLIENT_PHASES = {
    "part of a head": (b"GET /silent HTTP/1.1\r\nHos", ""),
    "a head": (b"GET /silent" + HOST + b"\r\n", ""),
    "a head that is answered at once": (b"GET /ok" + HOST + b"\r\n", ""),
    "two heads": ((b"GET /silent" + HOST + b"\r\n") * 2, ""),
    "waiting for an answer": (b"GET /silent" + HOST + b"\r\n", "more"),
    "part of a body": (b"POST /silent" + HOST + b"Content-Length: 100\r\n\r\nabc", ""),
    "a body under way": (b"POST /silent" + HOST + b"Content-Length: 100\r\n\r\nabc", "more"),
    "a long body that is not read": (b"POST /deaf" + HOST + b"Content-Length: %d\r\n\r\n" % BIG, "flood"),
    "chunks that are not read": (b"POST /deaf" + HOST + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", "flood"),
    "an answer under way": (b"GET /flood" + HOST + b"\r\n", "answer"),
    "an answer that is not read": (b"GET /flood" + HOST + b"\r\n", "more"),
    "requests behind one that waits": ((b"GET /silent" + HOST + b"X: " + b"x" * 4000 + b"\r\n\r\n") * 100, "more"),
    "an application that streams": (b"GET /app" + HOST + b"\r\n", "answer"),
    "an application that waits": (b"GET /listening" + HOST + b"\r\n", ""),
    "an application whose body is not read": (b"POST /app" + HOST + b"Content-Length: %d\r\n\r\n" % BIG, "flood"),
    "an upgrade": (b"GET /silent" + HOST + UPGRADE, "answer"),
    "an upgrade and its first message": (b"GET /silent" + HOST + UPGRADE + b"message", ""),
    "an upgrade whose messages are not read": (b"GET /deaf" + HOST + UPGRADE, "flood"),
    "an upgrade that does not read": (b"GET /flood" + HOST + UPGRADE, "more"),
}


@pytest.mark.parametrize("phase", CLIENT_PHASES)
async def test_a_client_that_resets_leaves_nothing(ground: Ground, phase: str) -> None:
    sent, then = CLIENT_PHASES[phase]

    async def one() -> None:
        client = await ground.client()
        await asyncio.to_thread(client.sendall, sent) if len(sent) > 65536 else client.sendall(sent)
        if then == "flood":
            client.setblocking(False)
            full = 0
            while full < 3:  # Until all buffers on the way are full.
                try:
                    client.send(b"x" * 65536)
                except (BlockingIOError, ssl.SSLWantWriteError):
                    full += 1
                    await asyncio.sleep(0.02)
        await _settled(ground, client, sent, then)
        reset(client)

    await _run(one, ground)


async def test_a_client_that_half_closes_and_resets_leaves_nothing(ground: Ground) -> None:
    if ground.tls is not None:
        pytest.skip("TLS knows no half-closed connections here")

    async def one() -> None:
        client = ground.raw()
        client.sendall(b"GET /silent" + HOST + b"\r\n")
        client.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.02)
        reset(client)

    await _run(one, ground)


@pytest.mark.parametrize("length", [0, 1, 50, 10_000])
async def test_a_client_that_resets_in_its_handshake_leaves_nothing(ground: Ground, length: int) -> None:
    if ground.tls is None:
        pytest.skip("without TLS there is no handshake")
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ground.tls.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()[:length]

    async def one() -> None:
        client = ground.raw()
        client.sendall(hello)
        if length > 1:
            await asyncio.sleep(0)
        reset(client)

    await _run(one, ground)


UPSTREAM_PHASES = {
    "/reset": (503, b""),
    "/reset-head": (503, b""),
    "/reset-body": (200, b"64\r\n" + b"x" * 50),
    "/reset-chunk": (200, b""),
    "/reset-open": (200, b"64\r\n" + b"x" * 50),
    "/reset-long": (200, b""),
    "/reset-whole": (200, b"ok"),
    "/reset-switched": (101, b"hello"),
}


@pytest.mark.parametrize("path", UPSTREAM_PHASES)
async def test_an_upstream_that_resets_ends_the_exchange(ground: Ground, path: str) -> None:
    """The client gets the part of the answer before the reset, if the engine has received that part, or an error."""
    status, _ = UPSTREAM_PHASES[path]
    extra = UPGRADE if status == 101 else b"Connection: close\r\n\r\n"

    async def one() -> None:
        client = await ground.client()
        client.sendall(b"GET " + path.encode() + HOST + extra)
        client.settimeout(10)

        def read() -> bytes:
            found = b""
            try:
                while piece := client.recv(65536):
                    found += piece
            except (ConnectionResetError, ssl.SSLEOFError):
                pass
            return found

        found = await asyncio.to_thread(read)
        client.close()
        # The reset may discard data that the engine has not read yet; then the client gets an error.
        assert found.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.1 503 ")), found

    await _run(one, ground)


async def test_an_upstream_that_resets_during_an_upload_ends_it(ground: Ground) -> None:
    async def one() -> None:
        client = await ground.client()
        client.settimeout(10)
        client.sendall(b"POST /reset" + HOST + b"Content-Length: %d\r\n\r\n" % BIG)
        await asyncio.to_thread(client.recv, 65536)
        reset(client)

    await _run(one, ground)


async def test_an_upstream_that_resets_in_its_handshake_is_reported_at_once(
    world: World, insecure: ssl.SSLContext
) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x16\x03\x03\x00\x50")  # The header of a TLS record that never follows.
        await asyncio.sleep(0)
        abort(writer)

    backend = await world.backend(lambda backend: early)
    upstream = backend.upstream(insecure)

    def route(head: RequestHead) -> Decision:
        return Forward(upstream, head.target, head.headers, refuse)

    server = await world.serve(route, limits=LIMITS)
    ground = Ground(server)

    async def one() -> None:
        client = ground.raw()
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client.settimeout(10)
        assert (await asyncio.to_thread(client.recv, 65536)).startswith(b"HTTP/1.1 503 ")
        client.close()

    await _run(one, ground)


async def test_a_complete_response_before_a_reset_reaches_a_slow_client(world: World) -> None:
    """A server that closes with unread input sends its complete response, then a reset. The response is relayed."""
    size = 2 * 1024 * 1024
    sent = asyncio.Event()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sock = writer.get_extra_info("socket")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await writer.drain()
        await until(lambda: _outstanding(sock) == 0)
        abort(writer)
        sent.set()

    backend = await world.backend(lambda backend: early)

    async def connect() -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * size)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", backend.port))
        return sock

    upstream = backend.upstream()
    object.__setattr__(upstream, "connect", connect)
    ground = Ground(await world.serve(forward(upstream), limits=LIMITS))
    client = ground.raw()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(10):
        await sent.wait()

    def read() -> int:
        found = 0
        client.settimeout(10)
        while piece := client.recv(65536):
            found += len(piece)
        client.close()
        return found

    assert await asyncio.to_thread(read) > size


def _outstanding(sock: socket.socket) -> int:
    """Return the number of sent bytes that the peer's kernel has not acknowledged (SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), 0x5411, b"\0" * 4), sys.byteorder)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_reset_watch_of_a_loop_is_freed_with_the_loop(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def answer_once() -> None:
        world = World()
        server = await world.serve(lambda _: Respond(204, [], b""))
        client = await world.client(server)
        assert (await client.ask(b"GET /" + HOST + b"\r\n")).status == 204
        await world.close()

    gc.collect()
    before = descriptors()
    loop = new_loop()
    loop.run_until_complete(answer_once())
    loop.close()
    ended = weakref.ref(loop)
    del loop
    gc.collect()
    assert ended() is None
    assert descriptors() == before
