"""A client's connection: reads requests one at a time, asks the routing function, writes what the exchange answers.

Pipelined requests wait in the buffer until the exchange before them is over. All that an exchange writes while one
batch of bytes is handled leaves in one write.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable
from typing import Protocol, cast

from hatchway.proxy import bodies, heads
from hatchway.proxy.again import AgainExchange
from hatchway.proxy.asgi import AppExchange
from hatchway.proxy.bulk import LONG, BulkReader
from hatchway.proxy.context import Context
from hatchway.proxy.exchange import ForwardExchange
from hatchway.proxy.fields import BadMessage, end_to_end
from hatchway.proxy.heads import Request
from hatchway.proxy.routing import App, Decision, Forward, Headers, Peer, RequestHead, Respond
from hatchway.proxy.writer import LARGE, ResponseWriter

logger = logging.getLogger("hatchway.proxy")


class Exchange(Protocol):
    """What a client connection tells the exchange that is under way."""

    def body(self, data: bytes) -> None:
        """A piece of the request's body."""

    def body_end(self, trailers: Headers) -> None:
        """The request is complete."""

    def flush(self) -> None:
        """All that has arrived was handed over."""

    def client_full(self) -> None:
        """The client reads more slowly than it is written to: stop producing."""

    def client_ready(self) -> None:
        """The write buffer has drained."""

    def client_lost(self) -> None:
        """The client is gone or the exchange was ended; nothing can be written any more."""


class ClientConnection(ResponseWriter):
    """One accepted connection.

    head: of the current (or last) request. lingering: it is only read so that the last answer arrives.
    """

    __slots__ = (
        "_advancing",
        "_again",
        "_buffer",
        "_drain_left",
        "_exchange",
        "_held",
        "_known",
        "_parser",
        "_peer",
        "_reading_paused",
        "_routing",
        "_scanned",
        "_tls",
        "head",
        "lingering",
    )

    def __init__(self, context: Context, tls: bool) -> None:
        super().__init__(context)
        self._tls = tls
        self._peer = Peer(None, "https" if tls else "http")
        self._parser = heads.RequestParser(self._limits.fields)
        self._known: dict[bytes, Request] = {}
        self._again = AgainExchange(self, context)
        self.head: RequestHead | None = None
        self._buffer = b""
        self._scanned = 0
        self._exchange: Exchange | None = None
        self._routing: asyncio.Task[None] | None = None
        self._held = False
        self._advancing = False
        self._reading_paused = False
        self._drain_left = 0
        self.lingering = False

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._limits.buffer)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple) and len(address) >= 2:
            self._peer.address = (str(address[0]), int(address[1]))
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            # Only a certificate that was verified is ever given; without verification none is asked for.
            self._peer.certificate = tls.getpeercert(binary_form=True) or None
        host = self._peer.address[0] if self._peer.address is not None else None
        self._known = self._context.heads.of((self._peer.scheme, host, self._peer.certificate))
        self._context.connections.add(self)
        self.deadline = self._context.loop.time() + self._limits.head_timeout

    def data_received(self, data: bytes) -> None:
        if self._closed or self.lingering:
            return
        if self._buffer:
            data = self._buffer + data
        elif self._exchange is None and self._body is None and len(data) <= heads.KnownHeads.SIZE:
            request = self._known.get(data)
            if request is not None and self._begin_again(request):
                return
        self._advance(data)

    def eof_received(self) -> bool:
        if self._closed or self.lingering or (self._exchange is None and self._body is None):
            self._close()
            return False
        self._eof = True
        if self._tls:
            return False
        if self._body is not None and not self._held:
            # It promised more than it sent: the request will never be complete.
            self._abort()
            return False
        self.deadline = self._context.now + self._limits.half_closed_timeout
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._context.transport_lost(self.transport)
        self._context.forget(self)
        self.deadline = math.inf
        self._buffer = b""
        self._end_exchange()

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.client_full()

    def resume_writing(self) -> None:
        if self._eof:
            self.deadline = self._context.now + self._limits.half_closed_timeout
        if self._exchange is not None:
            self._exchange.client_ready()

    def deadline_passed(self) -> None:
        """The coarse clock found `deadline` in the past."""
        self.deadline = math.inf
        if self._exchange is None and self._body is None and self._buffer and not self._closed and not self.lingering:
            self._refuse(BadMessage("the request's head did not arrive in time", 408))
        else:
            self._abort()

    # Reading requests

    def _advance(self, data: bytes) -> None:
        """Use up `data` as far as the exchange under way allows; the rest waits in the buffer."""
        self._advancing = True
        while data:
            if self._body is not None:
                if self._held:
                    break
                data = self._advance_body(self._body, data)
            elif self._exchange is not None:
                break
            else:
                rest = self._advance_head(data)
                if rest is None:
                    break
                data = rest
            if self._closed or self.lingering:
                data = b""
        self._buffer = data
        self._advancing = False
        exchange = self._exchange
        if exchange is not None:
            exchange.flush()
            body = self._body
            if body is not None and isinstance(body, bodies.Length) and body.left >= LONG:
                self._read_in_bulk()
        elif self._eof and self._body is None and not self.lingering:
            self._close()
        if data and not self._reading_paused and len(data) > self._limits.buffer and not self._closed:
            self._reading_paused = True
            self.transport.pause_reading()

    def _advance_head(self, data: bytes) -> bytes | None:
        """Read a request's head and start its exchange; what follows it, or None when it is not complete."""
        if len(data) <= heads.KnownHeads.SIZE:
            known = self._known.get(data)
            if known is not None:
                self._scanned = 0
                self._begin(known)
                return b""
        if data[:2] == b"\r\n":
            # Empty lines before a request are tolerated (RFC 9112 section 2.2).
            while data[:2] == b"\r\n":
                data = data[2:]
            if not data:
                return b""
        end = data.find(b"\r\n\r\n", self._scanned) + 4
        if end < 4:
            if not self._scanned:
                self.deadline = self._context.now + self._limits.head_timeout
            try:
                if len(data) > self._limits.head:
                    raise BadMessage("request header fields too large", 431)
                heads.check_partial(data, self._scanned)
            except BadMessage as error:
                self._refuse(error)
                return b""
            self._scanned = max(0, len(data) - 3)
            return None
        self._scanned = 0
        try:
            if end > self._limits.head:
                raise BadMessage("request header fields too large", 431)
            head = data[:end]
            request = self._known.get(head)
            if request is None:
                request = self._parser.parse(head)
                self._context.heads.add(self._known, head, request)
        except BadMessage as error:
            self._refuse(error)
            return b""
        self._begin(request)
        return data[end:]

    def _advance_body(self, body: bodies.Body, data: bytes) -> bytes:
        try:
            chunk = body.feed(data)
        except BadMessage as error:
            self._refuse(error)
            return b""
        exchange = self._exchange
        if chunk:
            self._bytes_in += len(chunk)
            if exchange is not None:
                exchange.body(chunk)
            else:
                self._drain_left -= len(chunk)
                if self._drain_left < 0:
                    self._linger()
        if not body.done:
            return b""
        if self._body is body:
            self._body = None
            if exchange is not None and self._exchange is exchange:
                exchange.body_end(body.trailers)
            elif exchange is None and not self._closed:
                self._between_requests()
        return body.rest

    def _read_in_bulk(self) -> None:
        """Let a long body be read in larger pieces, when it goes to an upstream as it comes."""
        if self._takes_bulk() and self.transport.get_protocol() is self:
            BulkReader(self)

    def _takes_bulk(self) -> bool:
        return (
            isinstance(self._exchange, ForwardExchange)
            and not (self._held or self._buffer or self._closed or self.lingering)
            and isinstance(self._body, bodies.Length)
        )

    @property
    def bulk_left(self) -> int:
        body = self._body
        return body.left if isinstance(body, bodies.Length) else LONG

    def bulk_received(self, data: memoryview) -> bool:
        exchange, body = self._exchange, self._body
        if not self._takes_bulk():
            self.data_received(bytes(data))
            return False
        assert isinstance(exchange, ForwardExchange) and isinstance(body, bodies.Length)
        body.left -= len(data)
        self._bytes_in += len(data)
        exchange.body_now(data)
        if not body.left and self._body is body:
            body.done = True
            self._body = None
            if self._exchange is exchange:
                exchange.body_end([])
                exchange.flush()
        return self._body is not None

    def _begin_again(self, request: Request) -> bool:
        """Forward a head that came before as it was forwarded then. False when the routing function must be asked."""
        sent = request.sent
        if sent is None or not request.plain:
            return False
        forward, line = sent
        if forward.holds is None or not forward.holds():
            return False
        self._start(request)
        self.head = None
        self._exchange = self._again
        self._again.start(request, forward, line)
        return True

    def _start(self, request: Request) -> None:
        self.request = request
        self.begun = False
        self.deadline = math.inf
        self.status = self._bytes_in = self._bytes_out = 0
        self._chunking = False
        self._keep = request.keep_alive and request.upgrade is None

    def _begin(self, request: Request) -> None:
        self._start(request)
        head = self.head = RequestHead(
            request.method,
            request.target,
            request.path,
            request.query,
            request.headers,
            request.version,
            self._peer,
            request.upgrade,
            {},
            None,
            request.memo,
        )
        if request.body:
            self._body = bodies.reader(request.body, self._limits.head, self._limits.fields)
        try:
            decision = self._context.route(head)
        except Exception:  # whatever a routing function does wrong must not end the listener
            logger.exception("the routing function failed on %s", head.method)
            self.fail(500, "internal error")
            return
        if isinstance(decision, Forward):
            self._forward(request, head, decision)
        elif isinstance(decision, (App, Respond)):
            self._decide(decision)
        else:
            self._exchange = _Waiting()
            self.hold()
            self._routing = self._context.spawn(self._await_route(decision), "routing function")

    async def _await_route(self, pending: Awaitable[Decision]) -> None:
        waiting = self._exchange
        try:
            decision = await pending
        except Exception:  # as in _begin
            logger.exception("the routing function failed")
            if self._exchange is waiting and not self._closed:
                self.release()
                self.fail(500, "internal error")
            return
        if self._exchange is waiting and not self._closed:
            self._routing = None
            self._exchange = None
            self._held = False
            self._decide(decision)
            self._resume()

    def _decide(self, decision: Decision) -> None:
        assert self.request is not None and self.head is not None
        if isinstance(decision, Forward):
            self._forward(self.request, self.head, decision)
        elif isinstance(decision, App):
            application = AppExchange(self, self._context, self.request, self.head, decision.app)
            self._exchange = application
            application.start()
        else:
            self.answer(decision)

    def _forward(self, request: Request, head: RequestHead, decision: Forward) -> None:
        exchange = ForwardExchange(self, self._context, request, decision, head.answer_field)
        self._exchange = exchange
        exchange.start()

    # What exchanges call

    def exchange_is(self, exchange: Exchange) -> None:
        """Another object goes on with the exchange."""
        self._exchange = exchange

    @property
    def body_pending(self) -> bool:
        """The request's body has not been read to its end."""
        return self._body is not None

    def hold(self, pause: bool = False) -> None:
        """Hand over no more of the request's body until `release`. pause: do not even read it."""
        self._held = True
        if pause and self._body is not None and not self._reading_paused and not self._closed:
            self._reading_paused = True
            self.transport.pause_reading()

    def release(self) -> None:
        self._held = False
        self._resume()

    def _resume(self) -> None:
        if self._advancing or self._closed:
            return
        self._advance(self._buffer)
        if self._eof and self._body is not None and not self._held:
            self._abort()
        elif self._reading_paused and not self._closed and len(self._buffer) <= self._limits.buffer:
            self._reading_paused = False
            self.transport.resume_reading()

    def complete(self, trailers: Headers | None = None) -> None:
        """The response is complete: write what is left of it and go on to the next request."""
        self.end(trailers)
        self._exchange = None
        self._held = False
        self._report()
        if self._closed:
            return
        if self._body is not None:
            if self._keep and not self._eof:
                self._drain_left = self._limits.drain
                self.deadline = self._context.now + self._limits.head_timeout
                self._resume()
            else:
                self._linger()
        elif not self._keep:
            self._close()
        else:
            self._between_requests()
            if self._buffer or self._eof or self._reading_paused:
                self._resume()

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        """Send a response that is there as a whole, of known length. head: its lines and the empty one."""
        request = self.request
        assert request is not None
        if (
            not self._keep
            or self._eof
            or self._buffer
            or self._reading_paused
            or self._body is not None
            or self._context.closing
            or request.version != "1.1"
            or len(body) >= LARGE
        ):
            self.begin(status, head[:-2], b"", True)
            self.send(body)
            self.complete()
            return
        self.begun = True
        self.status = status
        self._bytes_out = len(body)
        self._context.write(self.transport, head + body)
        self._exchange = None
        self._held = False
        if self.head is not None:
            self._report()
        self.deadline = self._context.now + self._limits.idle_timeout

    def answer(self, respond: Respond, close: bool = False) -> None:
        """Send a whole response. close: end the connection afterwards."""
        if self._closed:
            self._end_exchange()
            return
        status = respond.status
        body = respond.body
        method = self.request.method if self.request is not None else ""
        if close:
            self._keep = False
        try:
            fields = end_to_end(respond.headers)
        except BadMessage:
            logger.error("a response's header field holds a line break (status %d)", status)
            fields, body, status = b"", b"", 500
        fields += self._context.date
        if status not in (204, 304) and status >= 200:
            fields += b"Content-Length: %d\r\n" % len(body)
        self.begin(status, heads.status_line(status), fields, True)
        if body and not heads.bodiless(method, status):
            self.send(body)
        self.complete()

    def fail(self, status: int, message: str, close: bool = False) -> None:
        """Answer with an error of the engine's own, worded by the listener; cut if an answer has begun already."""
        if self.begun:
            self.cut()
        else:
            self.answer(self._context.error_body(status, message), close)

    def cut(self) -> None:
        """End the connection so that the client sees that the response is not complete."""
        self._out.clear()
        request = self.request
        if request is not None and request.version == "1.0" and not self._chunking:
            self._abort()  # an orderly end would look like the end of the body
        else:
            self._end_exchange()
            self._close()

    def hand_over(self, fields: bytes, rest: bytes) -> tuple[asyncio.Transport, bytes]:
        """Give up the transport after a 101, written here with what followed it; what the client sent early is returned."""
        self.begun = True
        self.status = 101
        self.deadline = math.inf
        early, self._buffer = self._buffer, b""
        self._context.flush()
        self.transport.write(heads.STATUS_LINES[101] + fields + b"\r\n" + rest)
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        return self.transport, early

    def handed_back(self, bytes_in: int, bytes_out: int) -> None:
        """The transport that was given up is closed; so many bytes came from the client and went to it."""
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out
        self.connection_lost(None)

    def shut_down(self) -> None:
        """The server closes: end an idle connection; one with an exchange ends with it (`Connection: close`)."""
        self._keep = False
        if self._exchange is None and self._body is None and not self._buffer:
            self._close()

    def abort(self) -> None:
        """Cut the connection and whatever goes on on it."""
        self._abort()

    # Ends

    def _between_requests(self) -> None:
        self.deadline = self._context.now + self._limits.idle_timeout
        if self._context.closing and not self._buffer:
            self._close()

    def _refuse(self, error: BadMessage) -> None:
        """A request that is not acceptable: say so if nothing was said yet, and end the connection."""
        if self._exchange is not None or self._body is not None:
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.client_lost()
            self._body = None
            if self.begun or exchange is None:
                self.cut()
                return
        else:
            self.request = self.head = None
            self.status = 0
        if self.request is None:
            self.request = Request("", b"", b"", None, [], "1.1")
        self.begun = False
        self._keep = False
        self._body = bodies.UntilClose()  # whatever follows is thrown away
        self.fail(error.status, error.message, close=True)

    def _linger(self) -> None:
        """Close, but read on for a while: closing with unread input resets the connection and loses the answer."""
        self.lingering = True
        self._body = None
        self._buffer = b""
        self.deadline = self._context.now + self._limits.linger
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        if self._eof:
            self._close()
        elif self.transport.can_write_eof():
            self._context.flush()
            self.transport.write_eof()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self.deadline = math.inf
            self._context.close_transport(self.transport)

    def _abort(self) -> None:
        self._closed = True
        self.deadline = math.inf
        self.transport.abort()
        self._end_exchange()

    def _end_exchange(self) -> None:
        routing, self._routing = self._routing, None
        if routing is not None:
            routing.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
        self._body = None
        self._report()

    def _report(self) -> None:
        head = self.head
        if head is None or head.on_complete is None:
            return
        callback, head.on_complete = head.on_complete, None
        try:
            callback(self.status, self._bytes_in, self._bytes_out)
        except Exception:  # a callback's failure must not end the connection
            logger.exception("on_complete failed")


class _Waiting:
    """Stands for the exchange while an asynchronous routing function has not decided."""

    __slots__ = ()

    def body(self, data: bytes) -> None: ...

    def body_end(self, trailers: Headers) -> None: ...

    def flush(self) -> None: ...

    def client_full(self) -> None: ...

    def client_ready(self) -> None: ...

    def client_lost(self) -> None: ...
