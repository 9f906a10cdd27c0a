"""A server on loopback that forwards ports like a kubelet, with this project's implementation of SPDY."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import cast

from hatchway.kube.streams.spdyconnection import SpdyConnection
from hatchway.kube.streams.spdystream import SpdyStream
from hatchway.wire import wshandshake
from hatchway.wire.portforwardstreams import (
    OFFER_FIELD,
    SINGLE_STREAM_PROTOCOL,
    SPDY_PROTOCOL,
    TUNNEL_PROTOCOL,
    StreamPairs,
)

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
    "status": {"phase": "Running"},
}
# kubectl's discovery requests, which come before the request for the pod.
ANSWERS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [{"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}],
    },
}


class End(asyncio.Protocol):
    """One side of a connection; forwards received data to the other side."""

    other: End

    def __init__(self, error: SpdyStream | None = None) -> None:
        self.error = error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.other.transport.abort()
        else:
            self.other.transport.close()
        if self.error is not None:
            self.error.close()


class Forwarding:
    """Serves the streams of a port-forward."""

    def __init__(self) -> None:
        self.pairs = StreamPairs()
        self.streams: dict[int, SpdyStream] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def on_stream(self, stream: SpdyStream) -> None:
        self.streams[stream.stream_id] = stream
        stream.accept()
        pair = self.pairs.add(stream.stream_id, stream.headers, 0.0)
        if pair is not None:
            data, error = self.streams.pop(pair.data_stream), self.streams.pop(pair.error_stream)
            task = asyncio.get_running_loop().create_task(self.join(pair.port, data, error))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def join(self, port: int, data: SpdyStream, error: SpdyStream) -> None:
        error.start(asyncio.Protocol())
        pod, client = End(), End(error)
        pod.other, client.other = client, pod
        try:
            await asyncio.get_running_loop().create_connection(lambda: pod, "127.0.0.1", port)
        except OSError as problem:
            error.write(f"error forwarding port {port} to pod web: {problem}".encode())
            error.close()
            data.close()
            return
        data.start(client)


class Http(asyncio.Protocol):
    def __init__(self, forwarding: Forwarding, upgrades: list[str], offers: bool, spdy: bool) -> None:
        self.forwarding, self.upgrades = forwarding, upgrades
        self.offers, self.spdy = offers, spdy
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        head, _, rest = self.head.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")[1:]
        fields = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        upgrade = next((value for name, value in fields if name.lower() == b"upgrade"), b"").decode().lower()
        if not upgrade:
            path = head.split(b" ")[1].partition(b"?")[0].decode()
            body = json.dumps(ANSWERS.get(path, POD)).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            self.head = b""
            return
        self.upgrades.append(upgrade)
        if upgrade == "websocket":
            key = wshandshake.parse_request(fields).key
            answer = wshandshake.response_fields(key, TUNNEL_PROTOCOL)
            if self.offers:
                answer.append((OFFER_FIELD, SINGLE_STREAM_PROTOCOL.encode()))
        elif not self.spdy:
            self.transport.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        else:
            answer = [(b"Connection", b"Upgrade"), (b"Upgrade", b"SPDY/3.1")]
            answer.append((b"X-Stream-Protocol-Version", SPDY_PROTOCOL.encode()))
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in answer)
        )
        connection = SpdyConnection(server=True, tunnel=upgrade == "websocket", on_stream=self.forwarding.on_stream)
        self.transport.set_protocol(connection)
        connection.connection_made(self.transport)
        if rest:
            connection.data_received(rest)


class OwnServer:
    """The server. upgrades: the Upgrade fields of requests, in order.

    offers: whether to offer the protocol with one stream per connection. spdy: whether to accept SPDY.
    """

    def __init__(self, *, offers: bool = False, spdy: bool = True) -> None:
        self.upgrades: list[str] = []
        self.offers, self.spdy = offers, spdy
        self.forwarding = Forwarding()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[OwnServer]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Http(self.forwarding, self.upgrades, self.offers, self.spdy), "127.0.0.1", 0
        )
        self.port: int = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
