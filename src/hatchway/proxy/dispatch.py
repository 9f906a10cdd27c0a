"""The dispatcher of a client's requests: calls the routing function for each request, and starts its exchange."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from hatchway.proxy import heads
from hatchway.proxy.acceptedupgrade import take_over
from hatchway.proxy.asgi import AppExchange
from hatchway.proxy.cache import CachedHead, ClientDecisions
from hatchway.proxy.context import Context
from hatchway.proxy.contracts import ConnectionControl, Exchange
from hatchway.proxy.exchange import ForwardExchange
from hatchway.proxy.fields import BadMessage, end_to_end, field_line
from hatchway.proxy.heads import Request
from hatchway.proxy.placeholder import PlaceholderExchange
from hatchway.proxy.reader import BodyEnd, RequestReader
from hatchway.proxy.routing import AcceptUpgrade, App, Decision, Forward, Headers, Peer, RequestHead, Respond
from hatchway.proxy.writer import LARGE, ResponseWriter

logger = logging.getLogger("hatchway.proxy")

_NO_REQUEST: Final = Request("", b"", b"", None, [], "1.1")


class Dispatcher:
    """Handles the requests of one connection, one at a time (`contracts.ExchangeClient`).

    Attributes:
        writer: writes the responses.
        exchange: the current exchange; None between two requests.
        request: the current or the last request; None once it is no longer needed.
        head: the head of that request for the routing function; None when a cached decision did not need it.
        body_begun: True once a piece of the request's body was read.
    """

    __slots__ = (
        "_bytes_in",
        "_cached",
        "_client",
        "_connection",
        "_context",
        "_forwarder",
        "_kept",
        "_peer",
        "_reader",
        "_routing",
        "_spare",
        "body_begun",
        "exchange",
        "head",
        "request",
        "transport",
        "writer",
    )

    def __init__(
        self,
        connection: ConnectionControl,
        context: Context,
        reader: RequestReader,
        transport: asyncio.Transport,
        peer: Peer,
        client: ClientDecisions,
    ) -> None:
        """Make the dispatcher of a connection.

        Args:
            connection: the client's connection.
            context: the listener's context.
            reader: the connection's request reader.
            transport: the connection's transport.
            peer: the client.
            client: the cached decisions for this client.
        """
        self._connection = connection
        self._context = context
        self._reader = reader
        self._peer = peer
        self._client: ClientDecisions | None = client
        self.transport = transport
        self.writer = ResponseWriter(context, transport)
        self.exchange: Exchange | None = None
        self.request: Request | None = None
        self.head: RequestHead | None = None
        self.body_begun = False
        self._bytes_in = 0
        # `_cached` is the decision about the current request that came from the cache (`_kept` is True), or that will
        # be cached after the response (`_kept` is False).
        self._cached: CachedHead | None = None
        self._kept = False
        # The exchange object of the last forwarded request. While another request may use this object, `_spare` is the
        # same object; otherwise `_spare` is None.
        self._forwarder: ForwardExchange | None = None
        self._spare: ForwardExchange | None = None
        self._routing: asyncio.Task[None] | None = None

    # Called by the client's connection

    def disconnected(self) -> None:
        """End the current exchange, and free everything, because the transport is closed. Call no method after this."""
        self.end_exchange()
        self.request = self.head = self._cached = self._client = None
        # These references form cycles, which only the garbage collector would free.
        self._forwarder = self._spare = self.writer.on_write = None
        del self._connection

    def begin(self, request: Request, known: CachedHead | None) -> None:
        """Start the exchange of a request. known: the cached decision about its head; None if there is none."""
        self.request = request
        self.head = None
        if self.body_begun:
            self.body_begun = False
            self._bytes_in = 0
        if request.plain:
            if not self.writer.fresh:
                self.writer.start("1.1", True)
        else:
            # A client that gets no 100 Continue may send its body or leave it out. So it is unknown whether the next
            # bytes are a body or a request, and the connection is closed after the response.
            unsure = request.expects_continue and request.body != 0
            self.writer.start(request.version, request.keep_alive and request.upgrade is None and not unsure)
        decision: Decision | Awaitable[Decision]
        try:
            repeated = known.decision.begin(self._make_head) if known is not None else None
            if repeated is not None:
                self._cached = known
                self._kept = True
                decision = repeated
            else:
                self._kept = False
                head = self._make_head()
                decision = self._context.route(head)
                self._cached = self._take_cached(head)
        except Exception:  # a routing function's error must not end the listener
            logger.exception("the routing function failed on %s", request.method)
            self._cached = None
            self.fail(500, "internal error")
            return
        if isinstance(decision, Forward):
            # This repeats the code of `_decide` to save a call, because nearly all requests of a proxy get here.
            exchange = self.exchange = self._spare or self._make_forwarder()
            self._spare = None
            exchange.start(request, self.head, decision, self._cached)
        elif isinstance(decision, (App, Respond, AcceptUpgrade)):
            self._decide(request, decision)
        else:
            self.exchange = waiting = PlaceholderExchange()
            self._connection.hold()
            self._routing = self._context.spawn(self._await_route(decision, waiting), "routing function")

    def body_received(self, data: bytes) -> None:
        """Take a piece of the request's body."""
        self._count_in(len(data))
        if self.exchange is not None:
            self.exchange.body(data)

    def body_ended(self, event: BodyEnd) -> None:
        """Take the end of the request's body."""
        if self.exchange is not None:
            self.exchange.body_end(event.trailers)

    def bulk_received(self, data: memoryview) -> None:
        """Take a piece of a long body, for an exchange that `takes_bulk`. `data` is valid only during the call."""
        self._count_in(len(data))
        if self.exchange is not None:
            self.exchange.body_now(data)

    def refuse(self, error: BadMessage, begun: bool) -> None:
        """Reject a malformed request. begun: True when its head was valid, and the error is in its body."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_lost()
        if begun and (self.writer.begun or exchange is None):
            self.cut()
            return
        if not begun:
            self.request = self.head = None
        if self.request is None:
            self.request = _NO_REQUEST
        self._cached = None
        self.writer.start(self.request.version, keep=False)
        self.fail(error.status, error.message, close=True)

    def end_exchange(self) -> None:
        """End the current exchange, and report its end (`RequestHead.on_complete`)."""
        routing, self._routing = self._routing, None
        if routing is not None:
            routing.cancel()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_lost()
        self._report()

    # Decisions

    def _make_head(self) -> RequestHead:
        request = self.request
        assert request is not None
        head = self.head = RequestHead(
            request.method,
            request.target,
            request.path,
            request.query,
            request.headers,
            request.version,
            self._peer,
            request.upgrade,
        )
        return head

    def _take_cached(self, head: RequestHead) -> CachedHead | None:
        """Return the value that the routing function has assigned to `head.cached`, and remove it from the head.

        The value may refer to the head. Without the removal, only the garbage collector could free such a cycle.
        """
        found, head.cached = head.cached, None
        request = self.request
        assert request is not None
        return CachedHead(request, found) if found is not None and request.head else None

    async def _await_route(self, pending: Awaitable[Decision], waiting: PlaceholderExchange) -> None:
        try:
            decision = await pending
        except Exception:  # a routing function's error must not end the listener
            logger.exception("the routing function failed")
            if self.exchange is waiting:
                self._routing = None
                self._connection.release()
                self.fail(500, "internal error")
            return
        if self.exchange is not waiting:
            return
        self._routing = None
        self.exchange = None
        self._connection.allow()
        assert self.head is not None and self.request is not None
        self._cached = self._take_cached(self.head)
        self._decide(self.request, decision)
        self._connection.resume()

    def _make_forwarder(self) -> ForwardExchange:
        self._forwarder = ForwardExchange(self, self._context)
        return self._forwarder

    def _decide(self, request: Request, decision: Decision) -> None:
        if isinstance(decision, Forward):
            exchange = self.exchange = self._spare or self._make_forwarder()
            self._spare = None
            exchange.start(request, self.head, decision, self._cached)
        elif isinstance(decision, App):
            head = self.head if self.head is not None else self._make_head()
            application = AppExchange(self, self._context, request, head, decision.app)
            self.exchange = application
            application.start()
        elif isinstance(decision, Respond):
            self.answer(decision)
        else:
            self._accept(request, decision)

    def _accept(self, request: Request, decision: AcceptUpgrade) -> None:
        if self.transport.is_closing():
            return  # `connection_lost` will be called
        try:
            if request.upgrade is None or request.body:
                raise BadMessage("the request asks for no upgrade, or has a body")
            fields = end_to_end(decision.headers) + field_line(b"Upgrade", decision.upgrade)
            protocol = decision.make_protocol()
        except Exception:  # a routing function's error must not end the listener
            logger.exception("an upgrade could not be accepted")
            self.fail(500, "internal error", close=True)
            return
        early = self.hand_over(b"Connection: Upgrade\r\n" + fields, b"")
        take_over(self._context, self.handed_back, self.transport, protocol, early)

    def _remember(self, request: Request) -> None:
        """Cache the decision for the next request with this head, or remove it after a status of 400 or above."""
        share = self._reader.share
        if share.taken:
            # A head of this exchange was large. If the client reads slowly, the response stays in the write buffer, and
            # the reserved memory is released later, in `ClientConnection.resume_writing`.
            self._context.flush()
            if not self._connection.is_full():
                share.release()
        client = self._client
        if not request.head:
            self.request = self.head = None
        elif client is not None:
            cached = self._cached
            kept = client.heads.get(request.head)
            if cached is None or self.writer.status >= 400:
                self._forwarder = self._spare = None  # the exchange object may refer to the decision
                if kept is not None:
                    self._context.decisions.drop(client, request.head)
            elif kept is not cached:
                self._context.decisions.add(client, cached)
        self._cached = None

    def _count_in(self, size: int) -> None:
        self._bytes_in += size
        if not self.body_begun:
            self.body_begun = True
            request = self.request
            # The client has sent its body without a 100 Continue, so the connection can be kept after all.
            if request is not None and request.expects_continue and not self.writer.begun:
                self.writer.set_keep(request.keep_alive and request.upgrade is None)

    def _report(self) -> None:
        head = self.head
        if head is None or head.on_complete is None:
            return
        callback, head.on_complete = head.on_complete, None
        try:
            callback(self.writer.status, self._bytes_in, self.writer.sent)
        except Exception:  # a callback's error must not end the connection
            logger.exception("on_complete failed")

    # `contracts.ExchangeClient`: called by exchanges

    @property
    def body_pending(self) -> bool:
        """Return True if a part of the request's body was not read yet."""
        return self._reader.in_body

    def hold(self, pause: bool = False) -> None:
        """Stop passing the request's body to the exchange until `release`. pause: stop reading from the client, too."""
        self._connection.hold(pause)

    def release(self) -> None:
        """Undo `hold`."""
        self._connection.release()

    def hold_head(self, head: bytes) -> bool:
        """Reserve memory for a response's head until the exchange ends. Return False when the budget is used up."""
        return self._reader.share.add(head)

    def release_heads(self) -> None:
        """Give back the memory that was reserved for heads. Call this when none of the heads is in memory any more."""
        self._reader.share.release()

    def complete(self, trailers: Headers | None = None) -> None:
        """Write the rest of a complete response, and go on to the next request."""
        self.writer.end(trailers)
        if self.exchange is self._forwarder:
            self._spare = self._forwarder
        self.exchange = None
        self._report()
        if self.request is not None:
            self._remember(self.request)
        self._connection.answered()

    def send_whole(self, status: int, head: bytes, body: bytes) -> None:
        """Send a complete response, and end a forwarded exchange whose object can be used again.

        Args:
            status: the response's status.
            head: its status line and field lines, Content-Length included, and the empty line.
            body: its body.
        """
        writer = self.writer
        if not writer.fresh or len(body) >= LARGE or not self._connection.answered_at_once():
            writer.begin(status, head[:-2], b"", True)
            writer.send(body)
            self.complete()
            return
        self._spare = self._forwarder
        self.exchange = None
        if self.head is None and self._kept and status < 400:
            # The writer is bypassed and stays `fresh`, because nothing reads its state for this response later.
            self._context.write(self.transport, head + body)
            return
        writer.write_whole(status, head, body)
        self._report()
        if (status >= 400 or not self._kept) and self.request is not None:
            self._remember(self.request)

    def answer(self, respond: Respond, close: bool = False) -> None:
        """Send a complete response. close: close the connection afterwards."""
        if self.writer.closed:
            self.end_exchange()
            return
        status = respond.status
        body = respond.body
        method = self.request.method if self.request is not None else ""
        if close:
            self.writer.set_keep(False)
        try:
            fields = end_to_end(respond.headers)
        except BadMessage:
            logger.error("a response (status %d) has a line break in a header field; it was replaced by 500", status)
            fields, body, status = b"", b"", 500
        fields += self._context.date
        if status not in (204, 304) and status >= 200:
            fields += b"Content-Length: %d\r\n" % len(body)
        self.writer.begin(status, heads.status_line(status), fields, True)
        if body and not heads.bodiless(method, status):
            self.writer.send(body)
        self.complete()

    def fail(self, status: int, message: str, close: bool = False) -> None:
        """Answer with an error that the engine itself has found. If a response has begun, do what `cut` does."""
        if self.writer.begun:
            self.cut()
        else:
            self.answer(self._context.error_body(status, message), close)

    def cut(self) -> None:
        """Close the connection in such a way that the client sees that the response is incomplete."""
        self.writer.drop()
        if self.writer.is_self_delimiting:
            self.end_exchange()
            self._connection.close()
        else:
            self._connection.abort()  # a FIN would look like the end of the body

    def abort(self) -> None:
        """Close the connection at once, and end the current exchange."""
        self._connection.abort()

    def hand_over(self, fields: bytes, rest: bytes) -> bytes:
        """Send a 101, and give up the transport, as `contracts.ExchangeClient` says."""
        self.exchange = PlaceholderExchange()
        self.writer.switch(fields, rest)
        if self.request is not None and not self.request.head and self.head is not None:
            # The head is only needed for its `on_complete`.
            self.head.headers = []
            self.head.target = self.head.path = b""
            self.head.query = None
        if self.head is not None and self.head.on_complete is None:
            self.head = None
        # Free everything of the request: there may be thousands of upgraded connections, for hours.
        self.request = self._cached = self._forwarder = self._spare = None
        return self._connection.hand_over()

    def handed_back(self, bytes_in: int, bytes_out: int) -> None:
        """Report the end of an upgraded connection, as `contracts.ExchangeClient` says."""
        self._bytes_in += bytes_in
        self.writer.sent += bytes_out
        self._connection.connection_lost(None)
