"""Raw sockets at both ends of the engine: clients that send bytes, backends that follow a script."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hatchway.proxy.routing import (
    CachedDecision,
    Decision,
    Forward,
    ProxyError,
    RequestHead,
    Respond,
    RoutingFunction,
    Upstream,
)
from hatchway.proxy.server import Server, serve

# The largest size of a head that tests read, in bytes.
LIMIT = 16 * 1024 * 1024


@dataclass
class Message:
    """A request or a response. start: its first line. headers: fields with lower-case names."""

    start: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    interim: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    def get(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


def _fields(block: bytes) -> list[tuple[bytes, bytes]]:
    lines = [line.partition(b":") for line in block.split(b"\r\n") if line]
    return [(name.lower(), value.strip()) for name, _, value in lines]


async def read_message(reader: asyncio.StreamReader, method: str = "", request: bool = False) -> Message:
    """Read one message, with the interim responses before it. Raises IncompleteReadError if it is cut off."""
    interim: list[bytes] = []
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        start, _, block = head.partition(b"\r\n")
        message = Message(start, _fields(block), interim=interim)
        if request or not start.split(b" ")[1].startswith(b"1") or message.status == 101:
            break
        interim.append(start)
    if not request and (method == "HEAD" or message.status in (101, 204, 304)):
        return message
    if message.get(b"transfer-encoding") == b"chunked":
        body = bytearray()
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        message.body = bytes(body)
        trailers = b""
        while (line := await reader.readline()) != b"\r\n":
            trailers += line
        message.trailers = _fields(trailers)
    elif (length := message.get(b"content-length")) is not None:
        message.body = await reader.readexactly(int(length))
    elif not request:
        message.body = await reader.read(-1)
    return message


class Client:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self, method: str = "GET") -> Message:
        async with asyncio.timeout(10):
            return await read_message(self.reader, method)

    async def rest(self) -> bytes:
        """Read to the end of the connection, by a close or a reset; return the data."""
        data = bytearray()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    data += piece
        return bytes(data)

    async def ask(self, data: bytes, method: str = "GET") -> Message:
        self.send(data)
        return await self.response(method)

    def cut(self) -> None:
        """Reset the connection, so that the peer knows that the client is gone; a FIN could be a half-close."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Backend:
    """A server that runs a script for each connection.

    requests: the requests that scripts have read (`read`). connections: the number of connections so far.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Message] = []
        self.connections = 0
        self.ended = asyncio.Event()
        self.port = 0
        self.failure: BaseException | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=context, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._tasks.add(task)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The engine has closed the connection, which tests check in another way.
        except Exception as error:  # noqa: BLE001  `close` raises it at the end of the test
            self.failure = error
        finally:
            writer.close()
            self.ended.set()

    async def read(self, reader: asyncio.StreamReader) -> Message:
        message = await read_message(reader, request=True)
        self.requests.append(message)
        return message

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.failure is not None:
            raise self.failure

    async def connect(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def upstream(self, tls: ssl.SSLContext | None = None, name: str | None = None) -> Upstream:
        return Upstream(("backend", self.port, tls is not None), self.connect, tls, name)


def refuse(error: ProxyError) -> Respond:
    """Return a 503 with the stage and the message of an error."""
    return Respond(503, [(b"X-Stage", error.stage.encode())], f"{error.stage}: {error.message}".encode())


class Kept(CachedDecision):
    """A cached decision that forwards all requests alike, while `valid` returns true. begun: the number of uses."""

    def __init__(self, forward: Forward, valid: Callable[[], bool] = lambda: True) -> None:
        self._forward = forward
        self._valid = valid
        self.begun = 0

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision | None:
        if not self._valid():
            return None
        self.begun += 1
        return self._forward


def forward(upstream: Upstream, *, keep: bool = True, **more: Any) -> RoutingFunction:
    """Return a routing function that forwards everything unchanged. keep: whether decisions may be cached."""

    def route(head: RequestHead) -> Decision:
        decision = Forward(upstream, head.target, head.headers, refuse, **more)
        if keep:
            head.cached = Kept(decision)
        return decision

    return route


class World:
    """The servers and connections that a test has started."""

    def __init__(self) -> None:
        self._servers: list[Server] = []
        self._backends: list[Backend] = []
        self._clients: list[Client] = []

    async def backend(self, script: Callable[[Backend], Script], context: ssl.SSLContext | None = None) -> Backend:
        """Start a backend. script: gets the backend, returns the handler of its connections."""
        holder: list[Backend] = []

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await script(holder[0])(reader, writer)

        backend = Backend(run)
        holder.append(backend)
        await backend.start(context)
        self._backends.append(backend)
        return backend

    async def answering(self, *answers: bytes, context: ssl.SSLContext | None = None) -> Backend:
        """Start a backend that answers each request by the next of `answers`; further requests get the last one."""
        left = list(answers)

        def script(backend: Backend) -> Script:
            async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while True:
                    await backend.read(reader)
                    writer.write(left.pop(0) if len(left) > 1 else left[0])
                    await writer.drain()

            return run

        return await self.backend(script, context)

    async def serve(self, route: RoutingFunction, **options: Any) -> Server:
        server = await serve(route, host="127.0.0.1", port=0, **options)
        self._servers.append(server)
        return server

    async def client(self, server: Server, context: ssl.SSLContext | None = None, source: str | None = None) -> Client:
        """Connect a client. source: the address from which it connects."""
        local = (source, 0) if source is not None else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context, local_addr=local, limit=LIMIT
        )
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        for server in self._servers:
            await server.close(0)
        for backend in self._backends:
            await backend.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  conditions of any kind, also without events
            await asyncio.sleep(0.002)
