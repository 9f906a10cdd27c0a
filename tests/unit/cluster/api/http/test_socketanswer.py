"""Answers of applications over WebSockets: handshakes, messages, slow clients and clients that disconnect."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, cast

import pytest

from hatchway.cluster.api.http.socketanswer import accept_socket
from hatchway.cluster.api.http.socketmessages import BytesMessages, WatchMessages
from hatchway.proxy.routing import AcceptUpgrade, App, Decision, Headers, Peer, RequestHead, Respond
from hatchway.wire.websocket import CloseReceived, Message, PongReceived, WebSocket

KEY = (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"Sec-WebSocket-Version", b"13")
ORIGIN = (b"Origin", b"http://localhost")


def offer(*protocols: bytes) -> tuple[bytes, bytes]:
    return (b"Sec-WebSocket-Protocol", b", ".join(protocols))


def asked(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead("GET", b"/", b"/", None, list(fields), "1.1", Peer(None, "https"), upgrade=b"websocket")


class Application:
    """Answers with a status and pieces. sent: the number of sent pieces. left: set when the client has disconnected."""

    def __init__(self, *pieces: bytes, status: int = 200, content_type: bytes = b"text/plain") -> None:
        self._pieces = pieces
        self._start = {"status": status, "headers": [(b"content-type", content_type), (b"audit-id", b"7")]}
        self.sent = 0
        self.left = asyncio.Event()
        self.fails = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", **self._start})
        if self._pieces:
            for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self.sent += 1
            if self.fails:
                raise ConnectionError("the application has failed")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        self.sent += 1
        assert await receive() == {"type": "http.disconnect"}
        self.left.set()


class Transport(asyncio.Transport):
    """A transport that collects the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        assert not self.is_closing()
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        self.closed.set()

    def is_closing(self) -> bool:
        return self.closed.is_set()


class Client:
    """A client whose upgrade was accepted."""

    def __init__(self, decision: Decision) -> None:
        assert isinstance(decision, AcceptUpgrade)
        self.fields = dict(decision.headers)
        self.protocol = decision.make_protocol()
        self.transport = Transport()
        self.websocket = WebSocket(client=True, largest=1 << 20)
        self.protocol.connection_made(self.transport)

    def events(self) -> list[Any]:
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return cast(list[Any], self.websocket.receive_data(data))


async def turns(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing reports what the application has sent
            await asyncio.sleep(0)


async def refused(app: Application, head: RequestHead, verb: str = "get") -> tuple[int, bytes]:
    decision = await accept_socket(App(app), head, verb)
    assert isinstance(decision, Respond) and dict(decision.headers)[b"audit-id"] == b"7"
    return decision.status, decision.body


PROTOCOLS: list[tuple[Headers, bytes, bool]] = [
    ([], b"", False),
    ([offer(b"binary.k8s.io")], b"binary.k8s.io", False),
    ([offer(b"base64.binary.k8s.io")], b"base64.binary.k8s.io", True),
    ([offer(b"v1.example", b"base64.binary.k8s.io", b"binary.k8s.io")], b"base64.binary.k8s.io", True),
    ([offer(b"base64url.bearer.authorization.k8s.io.YQ", b"binary.k8s.io")], b"binary.k8s.io", False),
]


@pytest.mark.parametrize(("fields", "chosen", "is_text"), PROTOCOLS)
async def test_a_stream_is_an_empty_message_and_its_bytes(fields: Headers, chosen: bytes, is_text: bool) -> None:
    body = bytes(range(256)) * 20
    app = Application(body, b"end\n")
    client = Client(await accept_socket(App(app), asked(KEY, VERSION, *fields), "get"))
    assert client.fields[b"Sec-WebSocket-Protocol"] == chosen
    assert client.fields[b"audit-id"] == b"7"
    await client.transport.closed.wait()
    *messages, close = client.events()
    assert close == CloseReceived(1000, "")
    assert {message.is_text for message in messages} == {is_text}
    data = [base64.b64decode(message.data) if is_text else message.data for message in messages]
    assert data == [b"", body[:2048], body[2048:4096], body[4096:], b"end\n"]


async def test_a_watch_sends_one_event_in_each_message() -> None:
    app = Application(b'{"type":"ADDED"}\n{"type":"MODIFIED"}\n', content_type=b"application/json")
    client = Client(await accept_socket(App(app), asked(KEY, VERSION, ORIGIN, offer(b"anything")), "watch"))
    assert client.fields[b"Sec-WebSocket-Protocol"] == b"anything"
    await client.transport.closed.wait()
    lines = [Message(b'{"type":"ADDED"}\n', True), Message(b'{"type":"MODIFIED"}\n', True)]
    assert client.events() == [*lines, CloseReceived(1000, "")]


async def test_a_watch_in_protobuf_is_binary_messages_without_their_length() -> None:
    app = Application(
        b"\0\0\0\x03a\nb\0\0\0\x01c", b"\0\0\x01\0" + b"d" * 256,
        content_type=b"application/vnd.kubernetes.protobuf;stream=watch",
    )  # fmt: skip
    client = Client(await accept_socket(App(app), asked(KEY, VERSION, ORIGIN), "watch"))
    assert b"Sec-WebSocket-Protocol" not in client.fields
    await client.transport.closed.wait()
    expected = [Message(data, False) for data in (b"a\nb", b"c", b"d" * 256)]
    assert client.events() == [*expected, CloseReceived(1000, "")]


@pytest.mark.parametrize(
    ("verb", "fields", "expected"),
    [
        ("get", [KEY, VERSION, (b"Content-Length", b"2")], (400, b"a request for a WebSocket must have no body")),
        ("get", [KEY, VERSION, (b"Transfer-Encoding", b"chunked")], (400, b"a request for a WebSocket must have no body")),
        ("get", [VERSION], (400, b"mismatch challenge/response")),
        ("get", [KEY], (400, b"missing or bad WebSocket Version")),
        ("get", [KEY, (b"Sec-WebSocket-Version", b"8")], (400, b"missing or bad WebSocket Version")),
        (
            "get",
            [KEY, VERSION, offer(b"v4.channel.k8s.io", b"x")],
            (403, b"requested protocol(s) are not supported: [v4.channel.k8s.io x]; supports [ binary.k8s.io base64.binary.k8s.io]"),
        ),
        ("watch", [KEY, VERSION], (403, b"a watch over a WebSocket needs the field Origin with a URL")),
        ("watch", [KEY, VERSION, (b"Origin", b"null")], (403, b"a watch over a WebSocket needs the field Origin with a URL")),
        ("watch", [KEY, VERSION, (b"Origin", b"http://a:b")], (403, b"a watch over a WebSocket needs the field Origin with a URL")),
        ("watch", [KEY, VERSION, ORIGIN, offer(b"a", b"b")], (400, b"a watch over a WebSocket takes one Sec-WebSocket-Protocol at most")),
    ],
)  # fmt: skip
async def test_refused_handshakes(verb: str, fields: Headers, expected: tuple[int, bytes]) -> None:
    app = Application(b"never sent")
    assert await refused(app, asked(*fields), verb) == expected
    await asyncio.sleep(0)
    assert app.sent == 0


async def test_an_error_of_the_application_has_precedence_over_errors_of_the_handshake() -> None:
    assert await refused(Application(b"not ", b"found", status=404), asked(), "watch") == (404, b"not found")


async def test_a_slow_client_makes_the_application_wait() -> None:
    app = Application(b"a", b"b", b"c")
    decision = await accept_socket(App(app), asked(KEY, VERSION), "get")
    client = Client(decision)
    client.protocol.pause_writing()
    await turns(lambda: client.transport.written.count(b"a") > 0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert app.sent == 0 and not client.transport.closed.is_set()
    client.protocol.resume_writing()
    await client.transport.closed.wait()
    assert [event.data for event in client.events()[:-1]] == [b"", b"a", b"b", b"c"]


async def test_answers_to_pings_of_a_client_that_does_not_read_are_bounded() -> None:
    client = Client(await accept_socket(App(Application()), asked(KEY, VERSION), "get"))

    def ping(count: int) -> None:
        for _ in range(count):
            client.websocket.ping(b"p")
        client.protocol.data_received(b"".join(map(bytes, client.websocket.data_to_send())))

    client.protocol.pause_writing()
    client.events()
    ping(600)
    assert not client.transport.written
    client.protocol.resume_writing()
    assert client.events() == [PongReceived(b"p")] * 600
    client.protocol.pause_writing()
    ping(600)
    assert not client.transport.closed.is_set()
    ping(600)
    assert client.transport.closed.is_set()
    assert client.events()[-1] == CloseReceived(1002, "too many pings")
    client.protocol.connection_lost(None)


async def test_the_application_is_told_that_the_client_has_disconnected() -> None:
    app = Application()
    client = Client(await accept_socket(App(app), asked(KEY, VERSION), "get"))
    await turns(lambda: app.sent == 1)
    client.websocket.send_binary(b"ignored")
    client.websocket.ping(b"p")
    client.websocket.close()
    client.protocol.data_received(b"".join(map(bytes, client.websocket.data_to_send())))
    await client.transport.closed.wait()
    client.protocol.connection_lost(None)
    await asyncio.wait_for(app.left.wait(), 30)


async def test_a_failed_application_ends_the_connection() -> None:
    app = Application(b"a")
    app.fails = True
    client = Client(await accept_socket(App(app), asked(KEY, VERSION), "get"))
    await asyncio.wait_for(client.transport.closed.wait(), 30)
    assert client.events()[-1] == CloseReceived(1000, "")


def test_empty_pieces_make_no_messages() -> None:
    assert list(BytesMessages([]).split(b"")) == []
    assert list(WatchMessages([], b"http://a", b"application/json").split(b"")) == []
