"""Upgraded connections to the API server, frame by frame."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlencode, urlsplit

from hatchway.wire import channels, portforwardstreams
from hatchway.wire.spdy import SpdySession
from hatchway.wire.spdyevents import DataReceived, Event, StreamReset
from hatchway.wire.websocket import CloseReceived, Message, Piece, WebSocket
from hatchway.wire.wshandshake import new_key
from tests.conftest import Cluster

POD = "/api/v1/namespaces/streams/pods/pod"


def command_path(kind: str, *command: str, container: str = "main", **flags: bool) -> str:
    """Return the path of an exec or attach. flags: stdin, tty ...; stdout and stderr are on unless set to False."""
    wanted = {"stdout": True, "stderr": True, **flags}
    pairs = [("container", container), *((name, "true") for name, value in wanted.items() if value)]
    return f"{POD}/{kind}?{urlencode([*pairs, *(('command', part) for part in command)])}"


@dataclass
class Refusal(Exception):
    """The response to an upgrade that was not accepted."""

    status: int
    head: bytes
    body: bytes


class Upgraded:
    """An upgraded connection, which is closed at the end of a block. head: the head of the 101."""

    def __init__(
        self, cluster: Cluster, method: str, path: str, fields: Sequence[tuple[str, str]], token: str = "admin"
    ) -> None:
        server = urlsplit(cluster.server)
        assert server.hostname is not None and server.port is not None
        plain = socket.create_connection((server.hostname, server.port), 30)
        self._socket = ssl.create_default_context(cafile=str(cluster.ca)).wrap_socket(
            plain, server_hostname=server.hostname
        )
        bearer = cluster.admin_token() if token == "admin" else token
        sent = [("Host", server.netloc), ("Authorization", f"Bearer {bearer}"), *fields]
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent), "", ""]
        self._socket.sendall("\r\n".join(lines).encode())
        self.early = b""
        while b"\r\n\r\n" not in self.early:
            data = self._socket.recv(65536)
            assert data, self.early
            self.early += data
        self.head, _, self.early = self.early.partition(b"\r\n\r\n")
        status = int(self.head.split(b" ")[1])
        if status != 101:
            body = self._rest_of_answer()
            self._socket.close()
            raise Refusal(status, self.head, body)

    def _rest_of_answer(self) -> bytes:
        body = self.early
        length = next(
            int(line.split(b":")[1]) for line in self.head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        while len(body) < length and (data := self._socket.recv(65536)):
            body += data
        return body

    def __enter__(self) -> Upgraded:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._socket.close()

    def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        self._socket.sendall(b"".join(map(bytes, buffers)))

    def receive(self) -> bytes:
        if self.early:
            data, self.early = self.early, b""
            return data
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""

    def reset(self) -> None:
        """Reset the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()


def websocket_fields(*protocols: str) -> list[tuple[str, str]]:
    fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Origin", "http://localhost"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", new_key().decode()),
    ]
    return [*fields, ("Sec-WebSocket-Protocol", ", ".join(protocols))] if protocols else fields


class WebSocketClient(Upgraded):
    """A client of a WebSocket."""

    def __init__(self, cluster: Cluster, path: str, *protocols: str, token: str = "admin") -> None:
        super().__init__(cluster, "GET", path, websocket_fields(*protocols), token)
        self.websocket = WebSocket(client=True, largest=1 << 20)
        self.closed: CloseReceived | None = None

    def flush(self) -> None:
        self.send(self.websocket.data_to_send())

    def write(self, message: bytes) -> None:
        self.websocket.send_binary(message)
        self.flush()

    def messages(self) -> Iterator[Message]:
        """Yield messages until the server closes."""
        while self.closed is None and (data := self.receive()):
            for event in self.websocket.receive_data(data):
                if isinstance(event, Message):
                    yield event
                elif isinstance(event, CloseReceived):
                    self.closed = event
            self.flush()

    def collect(self) -> dict[int, bytes]:
        """Read binary messages until the server closes; return channel -> data."""
        found: dict[int, bytes] = {}
        for message in self.messages():
            found[message.data[0]] = found.get(message.data[0], b"") + message.data[1:]
        return found


class SpdyClient(Upgraded):
    """A client of a SPDY session. tunnel: whether the session is inside a WebSocket."""

    def __init__(self, cluster: Cluster, path: str, *versions: str, tunnel: bool = False) -> None:
        fields = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
        fields += [("X-Stream-Protocol-Version", version) for version in versions]
        if tunnel:
            fields = websocket_fields(portforwardstreams.TUNNEL_PROTOCOL)
        super().__init__(cluster, "GET" if tunnel else "POST", path, fields)
        self._websocket = WebSocket(client=True, largest=None) if tunnel else None
        self.spdy = SpdySession(server=False)
        self.flush()

    def flush(self) -> None:
        buffers = self.spdy.data_to_send()
        if self._websocket is not None and buffers:
            self._websocket.send_binary(*buffers)
            buffers = self._websocket.data_to_send()
        self.send(buffers)

    def events(self) -> Iterator[Event]:
        """Yield events until the server closes."""
        while data := self.receive():
            pieces = [data]
            if self._websocket is not None:
                pieces = [event.data for event in self._websocket.receive_data(data) if isinstance(event, Piece)]
            for piece in pieces:
                yield from self.spdy.receive_data(piece)
            self.flush()

    def forward(self, port: int, name: int) -> tuple[int, int]:
        """Open the streams of a forwarded connection; return the data stream and the error stream."""
        error = self.spdy.open_stream(portforwardstreams.error_headers(port, name), fin=True)
        data = self.spdy.open_stream(portforwardstreams.data_headers(port, name))
        self.flush()
        return data, error

    def read(self, stream: int) -> bytes:
        """Read a stream to its end; data of other streams are not consumed."""
        found = b""
        for event in self.events():
            if isinstance(event, DataReceived) and event.stream_id == stream:
                found += event.data
                self.spdy.consumed(stream, len(event.data))
                self.flush()
                if event.fin:
                    return found
            elif isinstance(event, StreamReset) and event.stream_id == stream:
                break
        raise AssertionError(f"stream {stream} has not ended: {found[-200:]!r}")


def exit_code(found: dict[int, bytes]) -> int | None:
    return channels.decode_status(found[channels.ERROR]).exit_code
