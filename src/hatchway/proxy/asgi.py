"""The ASGI bridge: an exchange that an ASGI 3 application answers (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from hatchway.proxy import heads
from hatchway.proxy.context import Context
from hatchway.proxy.fields import BadMessage, end_to_end
from hatchway.proxy.heads import Request
from hatchway.proxy.routing import ASGIApp, Headers, RequestHead, Scope, get_header

if TYPE_CHECKING:
    from hatchway.proxy.connection import ClientConnection

logger = logging.getLogger("hatchway.proxy")


class ClientDisconnected(OSError):
    """`send` after the client has gone (ASGI's http specification, version 2.4, asks for an OSError)."""


class AppExchange:
    """Runs an application in a task; its `receive` and `send` are backpressured by the client's connection."""

    __slots__ = (
        "_app",
        "_client",
        "_context",
        "_ended",
        "_expect",
        "_finished",
        "_framed_length",
        "_full",
        "_head",
        "_head_of_response",
        "_lost",
        "_pieces",
        "_request",
        "_size",
        "_waiter",
        "_write_waiter",
    )

    def __init__(
        self, client: ClientConnection, context: Context, request: Request, head: RequestHead, app: ASGIApp
    ) -> None:
        self._client = client
        self._context = context
        self._request = request
        self._head = head
        self._app = app
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = not request.body
        self._expect = request.expects_continue
        self._lost = False
        self._finished = False
        self._full = False
        self._waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._head_of_response: tuple[int, Headers] | None = None
        self._framed_length: int | None = None

    def start(self) -> None:
        self._context.spawn(self._run(), "application")

    def _scope(self) -> Scope:
        head = self._head
        transport = self._client.transport
        server = transport.get_extra_info("sockname")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.http_version,
            "method": head.method,
            "scheme": head.peer.scheme,
            "path": unquote_to_bytes(head.path).decode("utf-8", "replace"),
            "raw_path": head.path,
            "query_string": head.query or b"",
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in head.headers],
            "client": head.peer.address,
            "server": (str(server[0]), int(server[1])) if isinstance(server, tuple) else None,
            "state": head.state,
            "extensions": {},
        }

    async def _run(self) -> None:
        try:
            await self._app(self._scope(), self._receive, self._send)
        except ClientDisconnected:
            pass  # the client is gone: nobody is left to be told
        except Exception:  # whatever an application does wrong must not end the listener
            if not self._lost:
                logger.exception("the application failed on %s", self._request.method)
        except BaseException:
            if not self._lost and not self._finished:
                self._client.abort()
            raise
        if self._lost or self._finished:
            return
        self._finished = True
        if not self._client.begun:
            self._client.fail(500, "internal error")
        else:
            self._client.cut()

    async def _receive(self) -> dict[str, Any]:
        if self._expect and not self._pieces and not self._ended and not self._lost and not self._client.begun:
            self._expect = False
            self._client.interim(100, b"")
        while not self._lost:
            if self._pieces or (self._ended and not self._finished and self._size >= 0):
                data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                more = not self._ended
                # Below zero: the end of the body was handed out, what follows can only be a disconnect.
                self._size = 0 if more else -1
                if more:
                    self._client.release()
                return {"type": "http.request", "body": data, "more_body": more}
            if self._finished:
                break
            self._waiter = self._context.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self._lost:
            raise ClientDisconnected("the client has gone")
        kind = message["type"]
        if kind == "http.response.start":
            if self._head_of_response is not None or self._client.begun:
                raise RuntimeError("the response has been started already")
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._head_of_response = (int(message["status"]), headers)
        elif kind == "http.response.body":
            if self._finished or (self._head_of_response is None and not self._client.begun):
                raise RuntimeError("a body without a response")
            await self._send_body(bytes(message.get("body", b"")), bool(message.get("more_body", False)))
        else:
            raise RuntimeError(f"unknown message {kind!r}")

    async def _send_body(self, data: bytes, more: bool) -> None:
        client = self._client
        if self._head_of_response is not None:
            self._begin(*self._head_of_response, data, more)
        status_has_body = not heads.bodiless(self._request.method, client.status)
        if data and status_has_body:
            if self._framed_length is not None:
                self._framed_length -= len(data)
                if self._framed_length < 0:
                    raise RuntimeError("the body is longer than its Content-Length")
            client.send(data)
        if more:
            client.push()
            if self._full:
                self._write_waiter = self._context.loop.create_future()
                try:
                    await self._write_waiter
                finally:
                    self._write_waiter = None
                if self._lost:
                    raise ClientDisconnected("the client has gone")
            return
        if status_has_body and self._framed_length:
            raise RuntimeError("the body is shorter than its Content-Length")
        self._finished = True
        self._wake()
        client.complete()

    def _begin(self, status: int, headers: Headers, data: bytes, more: bool) -> None:
        self._head_of_response = None
        stated = get_header(headers, b"content-length")
        fields = end_to_end(headers)
        if get_header(headers, b"date") is None:
            fields += self._context.date
        bodiless = heads.bodiless(self._request.method, status)
        length: int | None = None
        if stated is not None:
            if not stated.isdigit():
                raise BadMessage("malformed Content-Length in a response")
            length = int(stated)
        elif not more and not bodiless:
            length = len(data)
        if length is not None and status != 204:
            fields += b"Content-Length: %d\r\n" % length
        self._framed_length = length
        self._client.begin(status, heads.status_line(status), fields, length is not None or bodiless)

    # What the client's connection tells

    def body(self, data: bytes) -> None:
        if self._finished:
            return
        self._expect = False
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._context.limits.buffer:
            self._client.hold()
        self._wake()

    def body_end(self, trailers: Headers) -> None:
        self._ended = True
        self._wake()

    def flush(self) -> None: ...

    def client_full(self) -> None:
        self._full = True

    def client_ready(self) -> None:
        self._full = False
        self._wake_writer()

    def client_lost(self) -> None:
        self._lost = True
        self._wake()
        self._wake_writer()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wake_writer(self) -> None:
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
