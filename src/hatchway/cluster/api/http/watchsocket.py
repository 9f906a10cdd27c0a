"""Serves a watch over a WebSocket: each event is a text message.

Source: `ServeWebsocket` in apiserver's `endpoints/handlers/watch.go`. The REST application answers the request like any
watch, and each line of its answer is sent as a message. Errors are answered before the upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, cast

from hatchway.cluster.api.connect.websocketfields import without_bearer
from hatchway.proxy.routing import AcceptUpgrade, App, Decision, Headers, RequestHead, Respond
from hatchway.wire.websocket import CloseReceived, WebSocket, WebSocketError
from hatchway.wire.wshandshake import HandshakeError, parse_request, response_fields

logger = logging.getLogger(__name__)

# The most bytes of a client's message. (The content of messages is ignored.)
_LARGEST = 4096
# The most seconds until the engine passes the connection of an accepted watch to the protocol.
_ACCEPTING = 10.0
_PROTOCOL_FIELD = b"sec-websocket-protocol"


def is_watch_socket(head: RequestHead, verb: str) -> bool:
    """Return True for the request of a watch over a WebSocket."""
    return verb == "watch" and head.method == "GET" and (head.upgrade or b"").lower() == b"websocket"


async def accept_watch(app: App, head: RequestHead) -> Decision:
    """Wait until `app` has begun to answer a watch; return the upgrade, or the error that `app` has answered."""
    try:
        request = parse_request(
            (name, without_bearer(value)) if name.lower() == _PROTOCOL_FIELD else (name, value)
            for name, value in head.headers
        )
    except HandshakeError as error:
        return Respond(400, [(b"Content-Type", b"text/plain; charset=utf-8")], error.message.encode())
    watcher = _WatchSocket()
    task = asyncio.ensure_future(app.app(_scope(head), watcher.receive, watcher.send))
    task.add_done_callback(_ended)
    try:
        either: list[asyncio.Future[Any]] = [task, watcher.begun]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not watcher.begun.done():
            return Respond(500, [], b"")
        status, fields = watcher.begun.result()
        if status != 200:
            await asyncio.wait([task])
            return Respond(status, fields, bytes(watcher.refusal))
    except BaseException:
        task.cancel()
        raise
    chosen = request.protocols[0] if request.protocols else None
    own = [field for field in response_fields(request.key, chosen) if field[0] not in (b"Connection", b"Upgrade")]
    kept = [field for field in fields if field[0] == b"audit-id"]
    return AcceptUpgrade(b"websocket", [*own, *kept], lambda: watcher.serve(task))


def _scope(head: RequestHead) -> dict[str, Any]:
    return {
        "type": "http",
        "method": head.method,
        "headers": [(name.lower(), value) for name, value in head.headers],
        "query_string": head.query or b"",
        "state": head.state,
    }


def _ended(task: asyncio.Future[None]) -> None:
    # An OSError means that the client has disconnected.
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
        logger.error("a watch has failed", exc_info=error)


class _WatchSocket(asyncio.Protocol):
    """The client's connection, and the application's `receive` and `send`.

    begun: the status and the header fields of the application's answer.
    refusal: the body of an error.
    """

    def __init__(self) -> None:
        self._websocket = WebSocket(client=False, largest=_LARGEST)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Future[None] | None = None
        self._connected = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self.begun: asyncio.Future[tuple[int, Headers]] = asyncio.get_running_loop().create_future()
        self.refusal = bytearray()

    def serve(self, task: asyncio.Future[None]) -> asyncio.Protocol:
        """Take the application's task, and return this protocol."""
        self._task = task
        return self

    # Called by the application

    async def receive(self) -> dict[str, Any]:
        """Wait until the client has disconnected."""
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Send a piece of the answer. Raises OSError when the client has disconnected."""
        if message["type"] == "http.response.start":
            self.begun.set_result((message["status"], list(message.get("headers") or ())))
            return
        if self.begun.result()[0] != 200:
            self.refusal += message.get("body", b"")
            return
        if not self._connected.is_set():
            async with asyncio.timeout(_ACCEPTING):
                await self._connected.wait()
        for line in message.get("body", b"").splitlines(keepends=True):
            self._websocket.send_text(line)
        if not message.get("more_body"):
            self._websocket.close()
        self._flush()
        if not message.get("more_body") and self._transport is not None:
            self._transport.close()
        await self._writable.wait()
        if self._gone.is_set():
            raise ConnectionResetError("the client has disconnected")

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(self._websocket.data_to_send())

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connected.set()

    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(WebSocketError):
            if not any(isinstance(event, CloseReceived) for event in self._websocket.receive_data(data)):
                self._flush()
                return
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._gone.set()
        self._connected.set()
        self._writable.set()
