"""A client's connection: asks the routing function about each request, writes what the exchange answers, and ends.

All that an exchange writes while one batch of bytes is handled leaves in one write.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable
from typing import cast

from hatchway.proxy import bodies, heads
from hatchway.proxy.again import AgainExchange
from hatchway.proxy.asgi import AppExchange
from hatchway.proxy.context import Context
from hatchway.proxy.exchange import ForwardExchange
from hatchway.proxy.fields import BadMessage, end_to_end
from hatchway.proxy.heads import Request
from hatchway.proxy.reader import Exchange, RequestReader
from hatchway.proxy.routing import App, Decision, Forward, Headers, Peer, RequestHead, Respond
from hatchway.proxy.writer import LARGE

logger = logging.getLogger("hatchway.proxy")


class ClientConnection(RequestReader):
    """One accepted connection.

    head: of the current (or last) request, None when the routing function was not asked about it (`again.py`).
    """

    __slots__ = (
        "_again",
        "_peer",
        "_routing",
        "_tls",
        "head",
    )

    def __init__(self, context: Context, tls: bool) -> None:
        super().__init__(context)
        self._tls = tls
        self._peer = Peer(None, "https" if tls else "http")
        self._again = AgainExchange(self, context)
        self._routing: asyncio.Task[None] | None = None
        self.head: RequestHead | None = None

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
