"""The ASGI bridge: an ASGI 3 application for an exchange (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote_to_bytes

from hatchway.proxy import heads
from hatchway.proxy.context import Context
from hatchway.proxy.contracts import ExchangeClient
from hatchway.proxy.fields import BadMessage, end_to_end
from hatchway.proxy.heads import Request
from hatchway.proxy.routing import ASGIApp, Headers, RequestHead, Scope, get_header

logger = logging.getLogger("hatchway.proxy")

# The name of an ASGI extension in the scope. Its value is the function `AppExchange.write_now`, which writes a piece of
# the body without waiting. With this extension, the application does not have to run a task for each piece.
WRITE_NOW = "hatchway.write_now"


class ClientDisconnected(OSError):
    """Raised by `send` after the client has disconnected (ASGI's HTTP specification 2.4 requires an OSError)."""


class AppExchange:
    """Runs an ASGI application in a task (`contracts.Exchange`).

    Backpressure: `send` waits while the client reads too slowly. While the application does not call `receive`, nothing
    is read from the client.
    """

    takes_bulk = False

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
        "_streams",
        "_waiter",
        "_write_waiter",
    )

    def __init__(
        self, client: ExchangeClient, context: Context, request: Request, head: RequestHead, app: ASGIApp
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
        # The response has begun, and pieces of a body whose length is not known may follow.
        self._streams = False

    def start(self) -> None:
        """Run the application."""
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
            "extensions": {WRITE_NOW: self.write_now},
        }

    async def _run(self) -> None:
        try:
            await self._app(self._scope(), self._receive, self._send)
        except ClientDisconnected:
            pass  # the client has disconnected, so nothing is left to do
        except Exception:  # an application's error must not end the listener
            if not self._lost:
                logger.exception("the application failed on %s", self._request.method)
        except BaseException:
            if not self._lost and not self._finished:
                self._client.abort()
            raise
        if self._lost or self._finished:
            return
        self._finished = True
        if not self._client.writer.begun:
            self._client.fail(500, "internal error")
        else:
            self._client.cut()

    async def _receive(self) -> dict[str, Any]:
        if self._expect and not self._pieces and not self._ended and not self._lost and not self._client.writer.begun:
            self._expect = False
            self._client.writer.send_interim(100, b"")
        while not self._lost:
            if self._pieces or (self._ended and not self._finished and self._size >= 0):
                data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                more = not self._ended
                # -1: the application has received the end of the body. Only http.disconnect can follow.
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
            raise ClientDisconnected("the client has disconnected")
        kind = message["type"]
        if kind == "http.response.start":
            if self._head_of_response is not None or self._client.writer.begun:
                raise RuntimeError("http.response.start was sent twice")
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._head_of_response = (int(message["status"]), headers)
        elif kind == "http.response.body":
            if self._finished or (self._head_of_response is None and not self._client.writer.begun):
                raise RuntimeError(
                    "http.response.body was sent before http.response.start, or after the end of the body"
                )
            await self._send_body(bytes(message.get("body", b"")), bool(message.get("more_body", False)))
        else:
            raise RuntimeError(f"unknown ASGI message {kind!r}")

    def write_now(self, data: bytes) -> bool:
        """Write a piece of a response's body without Content-Length. Return True if it was written.

        Nothing is written while the client reads too slowly, before the body has begun, and after its end.
        """
        if self._full or self._lost or self._finished or not self._streams:
            return False
        writer = self._client.writer
        writer.send(data)
        writer.push()
        return True

    async def _send_body(self, data: bytes, more: bool) -> None:
        client = self._client
        if self._head_of_response is not None:
            self._begin(*self._head_of_response, data, more)
        status_has_body = not heads.bodiless(self._request.method, client.writer.status)
        if data and status_has_body:
            if self._framed_length is not None:
                self._framed_length -= len(data)
                if self._framed_length < 0:
                    raise RuntimeError("the response body is longer than its Content-Length")
            client.writer.send(data)
        if more:
            client.writer.push()
            if self._full:
                self._write_waiter = self._context.loop.create_future()
                try:
                    await self._write_waiter
                finally:
                    self._write_waiter = None
                if self._lost:
                    raise ClientDisconnected("the client has disconnected")
            return
        if status_has_body and self._framed_length:
            raise RuntimeError("the response body is shorter than its Content-Length")
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
        self._streams = length is None and not bodiless
        self._client.writer.begin(status, heads.status_line(status), fields, length is not None or bodiless)

    # `contracts.Exchange`: called by the client's connection

    def body(self, data: bytes) -> None:
        """Queue a piece of the request's body for `receive`."""
        if self._finished:
            return
        self._expect = False
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._context.limits.buffer:
            self._client.hold()
        self._wake()

    def body_now(self, data: memoryview) -> None:
        """Queue a copy of a piece of the request's body for `receive`."""
        self.body(bytes(data))

    def body_end(self, trailers: Headers) -> None:
        """Queue the end of the request's body for `receive`."""
        self._ended = True
        self._wake()

    def flush(self) -> None:
        """Do nothing: `body` has queued everything."""

    def client_full(self) -> None:
        """Make the next `send` wait."""
        self._full = True

    def client_ready(self) -> None:
        """Wake up a waiting `send`."""
        self._full = False
        self._wake_writer()

    def client_lost(self) -> None:
        """Make `receive` return http.disconnect, and `send` fail."""
        self._lost = True
        self._wake()
        self._wake_writer()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wake_writer(self) -> None:
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
