"""Sends the answer of an ASGI application over a WebSocket: the body becomes messages.

Kubernetes does this for watches and other streamed answers (`WatchServer.HandleWS` in apiserver's
`endpoints/handlers/watch.go`, `StreamObject` in `endpoints/handlers/responsewriters/writers.go`). The application
answers such a request like any other; `socketmessages.py` divides the body into messages. Errors are answered before
the upgrade. Messages of the client are ignored. While a client reads slowly, the application waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, cast

from hatchway.cluster.api.connect.websocketfields import without_bearer
from hatchway.cluster.api.http.socketmessages import (
    BytesMessages,
    HandshakeRefused,
    SocketMessage,
    SocketMessages,
    WatchMessages,
)
from hatchway.proxy.routing import AcceptUpgrade, App, Decision, Headers, RequestHead, Respond, get_header
from hatchway.wire.websocket import CloseReceived, WebSocket, WebSocketError
from hatchway.wire.wshandshake import HandshakeError, OpeningRequest, parse_request, response_fields

__all__ = ["accept_socket", "wants_socket"]

logger = logging.getLogger(__name__)

# The maximum number of bytes of a client's message. (All messages are ignored.)
_LARGEST = 4096
# Seconds within which the engine must hand over the connection of an accepted upgrade.
_ACCEPTING = 10.0
_PROTOCOL_FIELD = b"sec-websocket-protocol"
_WRITTEN_BY_ENGINE = (b"Connection", b"Upgrade")


def wants_socket(head: RequestHead) -> bool:
    """Return True for a GET that asks for a WebSocket."""
    return head.method == "GET" and (head.upgrade or b"").lower() == b"websocket"


async def accept_socket(app: App, head: RequestHead, verb: str) -> Decision:
    """Run `app` until it begins to answer. Return the upgrade, or an error of the application or the handshake.

    verb: the verb of the request.
    """
    answer = _SocketAnswer()
    task = asyncio.ensure_future(app.app(_scope(head), answer.receive, answer.send))
    task.add_done_callback(_report)
    try:
        either: list[asyncio.Future[Any]] = [task, answer.begun]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.begun.done():
            return Respond(500, [], b"")
        status, fields = answer.begun.result()
        if not 200 <= status < 300:
            await asyncio.wait([task])
            return Respond(status, fields, bytes(answer.refusal))
        kept = [field for field in fields if field[0] == b"audit-id"]
        request = _opening_request(head)
        messages = _messages(request, head, verb, fields)
    except HandshakeRefused as refused:
        task.cancel()
        told = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Sec-WebSocket-Version", b"13"), *kept]
        return Respond(refused.status, told, refused.message.encode())
    except BaseException:
        task.cancel()
        raise
    own = [field for field in response_fields(request.key, messages.protocol) if field[0] not in _WRITTEN_BY_ENGINE]
    return AcceptUpgrade(b"websocket", [*own, *kept], lambda: answer.serve(task, messages))


def _opening_request(head: RequestHead) -> OpeningRequest:
    """Parse a handshake. Raises HandshakeRefused with the texts of Go's `golang.org/x/net/websocket`.

    Go ignores a body. Hatchway refuses a body, because its bytes would be read as frames.
    """
    if head.header(b"content-length") not in (None, b"0") or head.header(b"transfer-encoding") is not None:
        raise HandshakeRefused(400, "a request for a WebSocket must have no body")
    if not head.header(b"sec-websocket-key"):
        raise HandshakeRefused(400, "mismatch challenge/response")
    if head.header(b"sec-websocket-version") != b"13":
        raise HandshakeRefused(400, "missing or bad WebSocket Version")
    try:
        return parse_request(
            (name, without_bearer(value)) if name.lower() == _PROTOCOL_FIELD else (name, value)
            for name, value in head.headers
        )
    except HandshakeError as error:
        raise HandshakeRefused(400, error.message) from error


def _messages(request: OpeningRequest, head: RequestHead, verb: str, fields: Headers) -> SocketMessages:
    if verb == "watch":
        return WatchMessages(request.protocols, head.header(b"origin"), get_header(fields, b"content-type") or b"")
    return BytesMessages(request.protocols)


def _scope(head: RequestHead) -> dict[str, Any]:
    return {
        "type": "http",
        "method": head.method,
        "headers": [(name.lower(), value) for name, value in head.headers],
        "query_string": head.query or b"",
        "state": head.state,
    }


def _report(task: asyncio.Future[None]) -> None:
    # An OSError means that the client has gone; the application has logged other errors.
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
        logger.error("an answer over a WebSocket has failed", exc_info=error)


class _SocketAnswer(asyncio.Protocol):
    """The client's connection, and the application's `receive` and `send`.

    begun: a future for the status and the header fields of the answer, done when the application begins to answer.
    refusal: the body of an answer that is an error.
    """

    def __init__(self) -> None:
        self._websocket = WebSocket(client=False, largest=_LARGEST)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Future[None] | None = None
        self._messages: SocketMessages | None = None
        self._connected = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self.begun: asyncio.Future[tuple[int, Headers]] = asyncio.get_running_loop().create_future()
        self.refusal = bytearray()

    def serve(self, task: asyncio.Future[None], messages: SocketMessages) -> asyncio.Protocol:
        """Store the application's task and the rules for its messages. Return this protocol."""
        self._task = task
        self._messages = messages
        return self

    # Called by the application.

    async def receive(self) -> dict[str, Any]:
        """Wait until the client has gone."""
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Send a piece of the answer. Raises OSError when the client has gone."""
        if message["type"] == "http.response.start":
            self.begun.set_result((message["status"], list(message.get("headers") or ())))
            return
        if not 200 <= self.begun.result()[0] < 300:
            self.refusal += message.get("body", b"")
            return
        if not self._connected.is_set():
            async with asyncio.timeout(_ACCEPTING):
                await self._connected.wait()
        assert self._messages is not None  # `serve` was called before the connection was made
        for part in self._messages.split(message.get("body", b"")):
            self._put(part)
        self._flush()
        if not message.get("more_body"):
            self._close()
        await self._writable.wait()
        if self._gone.is_set():
            raise ConnectionResetError("the client has gone")

    def _put(self, message: SocketMessage) -> None:
        if message.is_text:
            self._websocket.send_text(bytes(message.data))
        else:
            self._websocket.send_binary(message.data)

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(self._websocket.data_to_send())

    def _close(self, _: object = None) -> None:
        self._websocket.close()
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._task is not None and self._messages is not None  # `serve` has returned this protocol
        self._transport = cast(asyncio.Transport, transport)
        for part in self._messages.first():
            self._put(part)
        self._flush()
        self._connected.set()
        # An application that fails ends the connection, too.
        self._task.add_done_callback(self._close)

    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(WebSocketError):
            if not any(isinstance(event, CloseReceived) for event in self._websocket.receive_data(data)):
                # While the client does not read, answers to its pings stay in `_websocket`, which limits them. The
                # transport would keep any number of them.
                if self._writable.is_set():
                    self._flush()
                return
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        self._flush()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._gone.set()
        self._connected.set()
        self._writable.set()
