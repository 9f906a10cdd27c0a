"""One exchange that is forwarded: a request on its way up, its response on its way down, both streaming."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hatchway.proxy import heads
from hatchway.proxy.context import Context
from hatchway.proxy.fields import BadMessage, end_to_end, field_line, trailer_lines
from hatchway.proxy.heads import CHUNKED, Relayed, Request, Response
from hatchway.proxy.routing import (
    Forward,
    Headers,
    ProxyError,
    Reconsider,
    Respond,
    Transform,
    Upstream,
    get_header,
)
from hatchway.proxy.splice import splice
from hatchway.proxy.upstream import Reader, UpstreamConnection

if TYPE_CHECKING:
    from hatchway.proxy.connection import ClientConnection

logger = logging.getLogger("hatchway.proxy")

# How much of a response's body may wait for a decision.
_HELD_BACK: Final = 64 * 1024


class _HeldBack:
    """A response that may not be relayed."""

    __slots__ = ("_pieces", "again", "response", "size")

    def __init__(self, response: Response, again: Reconsider) -> None:
        self.response = response
        self.again = again
        self.size = 0
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._pieces.append(data)

    def body(self) -> bytes:
        return b"".join(self._pieces)


class ForwardExchange:
    """Relays between one client connection and one upstream connection.

    Backpressure: a full upstream holds the client's body; a full client pauses the upstream's reading.
    """

    # Without slots, and what is seldom set has its default here: an exchange is made for every request.
    _connection: UpstreamConnection | None = None
    _task: asyncio.Task[None] | None = None
    _transform: Transform | None = None
    _held_back: _HeldBack | None = None
    _failures = 0
    _head = b""
    _consumed = False
    _expect = False
    _refreshed = False
    _over = False

    def __init__(
        self,
        client: ClientConnection,
        context: Context,
        request: Request,
        forward: Forward,
        added: tuple[bytes, bytes] | None,
    ) -> None:
        """added: a field for the head of what is relayed as the answer."""
        self._client = client
        self._context = context
        self._request = request
        self._forward = forward
        self._added = added
        self._to_send: list[bytes] = []

    # The request's way up

    def start(self) -> None:
        request = self._request
        forward = self._forward
        try:
            self._head = request.sent_head(forward)
        except BadMessage as error:
            logger.error("the routing function's request cannot be sent: %s", error.message)
            self._over = True
            self._client.fail(500, "internal error")
            return
        if request.expects_continue:
            # Who drops the expectation on the way leaves it to the engine to tell the client to go on.
            self._expect = get_header(forward.headers, b"expect") is None
        if request.upgrade is not None:
            self.dial_later()
            return
        connection = self._context.pool.take(forward.upstream.key, check=not request.replayable)
        if connection is None:
            self.dial_later()
        else:
            self._attach(connection)

    def resume(self, head: bytes, connection: UpstreamConnection | None) -> None:
        """Instead of `start`, when the request was sent already, or is to be sent by `dial_later`."""
        self._head = head
        self._connection = connection

    def dial_later(self) -> None:
        self._client.hold()
        self._task = self._context.spawn(self._dial(self._forward.upstream), "dial")

    async def _dial(self, upstream: Upstream) -> None:
        try:
            connection = await self._context.pool.connect(upstream)
        except ProxyError as error:
            self._task = None
            self._failed(error, nothing_sent=True)
            return
        except Exception as error:  # `connect` is the routing function's; its failure is one of the dial
            logger.exception("connecting failed")
            self._task = None
            self._failed(ProxyError("dial", str(error)), nothing_sent=True)
            return
        self._task = None
        self._attach(connection)
        self._client.release()

    def _attach(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        sending = self._client.body_pending
        connection.begin(self, self._request.method, self._request.upgrade is not None, sending)
        if sending:
            # The first piece of the body usually is here already and leaves with the head.
            self._to_send.append(self._head)
            if self._expect:
                self._client.interim(100, b"")
        else:
            self._context.write(connection.transport, self._head)

    def body(self, data: bytes) -> None:
        self._consumed = True
        if self._connection is None:
            return
        if self._request.body == CHUNKED:
            self._to_send += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._to_send.append(data)

    def body_now(self, data: memoryview) -> None:
        self._consumed = True
        connection = self._connection
        if connection is not None:
            self.flush()
            if not connection.transport.is_closing():  # as one is whose loss has not been reported yet
                connection.transport.write(data)

    def body_end(self, trailers: Headers) -> None:
        if self._connection is None:
            return
        if self._request.body == CHUNKED:
            self._to_send.append(b"0\r\n" + trailer_lines(trailers))
        self._connection.sending = False

    def flush(self) -> None:
        pending = self._to_send
        if pending and self._connection is not None:
            self._context.flush()
            self._connection.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))
            pending.clear()

    def client_full(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.pause()

    def client_ready(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.resume()

    def client_lost(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    # The response's way down

    def upstream_full(self) -> None:
        self._client.hold(pause=True)

    def upstream_ready(self) -> None:
        self._client.release()

    def upstream_pieces(self) -> Reader:
        return self

    def upstream_interim(self, response: Response) -> None:
        try:
            self._client.interim(response.head.status, response.fields())
        except BadMessage:
            logger.error("an interim response cannot be relayed")

    def upstream_head(self, response: Response) -> None:
        if response.head.status >= 400 and self._forward.reconsider is not None:
            again = self._forward.reconsider(response.copy_head())
            if again is not None:
                self._held_back = _HeldBack(response, again)
                return
        self._relay_head(response)

    def _relay_head(self, response: Response) -> None:
        head = response.head
        start = response.start
        status = head.status
        if self._request.upgrade is not None and status < 400:
            # To go on as if nothing had been asked would leave bytes of another protocol to be read as requests.
            self._give_up(ProxyError("upgrade", f"invalid upgrade response: status code {status}", status))
            return
        edit = self._forward.edit_response
        if edit is not None:
            head = response.copy_head()
            try:
                self._transform = edit(head)
                if head.status != status or head.reason != response.head.reason:
                    start = heads.status_line(head.status)
            except Exception:  # the routing function's; its failure must not end the listener
                logger.exception("editing a response failed")
                self._drop_connection()
                self._over = True
                self._client.fail(500, "internal error", close=self._client.body_pending)
                return
        headers = head.headers
        added = self._added
        name = b""
        if added is not None:
            name = added[0]
            lower = name.lower()
            headers = [field for field in headers if field[0].lower() != lower]
        try:
            lines = start + end_to_end(headers)
            line = field_line(*added) if added is not None else b""
        except BadMessage as error:
            self._give_up(ProxyError("protocol", error.message))
            return
        known = response.body >= 0 and self._transform is None
        bodiless = heads.bodiless(self._request.method, head.status)
        if known and head.status != 204:
            lines += b"Content-Length: %d\r\n" % response.body
        if response.final and self._transform is None and (status < 400 or self._forward.reconsider is None):
            response.relayed = Relayed(self._forward, name, head.status, lines, lines + b"\r\n")
        self._client.begin(head.status, lines, line, known or bodiless)
        if bodiless:
            self._transform = None

    def upstream_whole(self, response: Response, body: bytes) -> None:
        self._connection = None
        relayed = response.relayed
        added = self._added
        if (
            relayed is None
            or relayed.forward is not self._forward
            or relayed.added != (added[0] if added is not None else b"")
            or self._request.upgrade is not None
        ):
            self.upstream_head(response)
            if not self._over:
                if body:
                    self.upstream_body(body)
                self.upstream_end([])
            return
        head = relayed.head
        if added is not None:
            value = added[1]
            if b"\n" in value or b"\r" in value:
                self._give_up(ProxyError("protocol", "line break in a header field"))
                return
            head = b"%b%b: %b\r\n\r\n" % (relayed.lines, relayed.added, value)
        self._over = True
        self._client.whole(relayed.status, head, body)

    def upstream_body(self, data: bytes) -> None:
        held = self._held_back
        if held is not None:
            held.add(data)
            if held.size > _HELD_BACK:
                self._held_back = None
                self._relay(held)
            return
        if self._transform is not None:
            try:
                data = self._transform.feed(data)
            except Exception:  # as in upstream_head
                logger.exception("transforming a response failed")
                self._cut()
                return
            if not data:
                return
        self._client.send(data)

    def upstream_bulk(self) -> Callable[[memoryview], None] | None:
        watched = self._held_back is not None or self._transform is not None
        return None if watched or not self._client.begun else self._client.send_now

    def upstream_flush(self) -> None:
        self._client.push()

    def upstream_end(self, trailers: Headers) -> None:
        self._connection = None
        self._to_send.clear()
        held, self._held_back = self._held_back, None
        if held is not None:
            self._task = self._context.spawn(self._reconsider(held, trailers), "reconsider")
            return
        if self._transform is not None:
            try:
                data = self._transform.finish()
            except Exception:  # as in upstream_head
                logger.exception("transforming a response failed")
                self._cut()
                return
            if data:
                self._client.send(data)
        self._over = True
        self._client.complete(trailers)

    async def _reconsider(self, held: _HeldBack, trailers: Headers) -> None:
        decision: Respond | Forward | None = None
        try:
            decision = await held.again(held.body())
        except Exception:  # the routing function's; what the upstream has said is still there
            logger.exception("reconsidering a response failed")
        self._task = None
        if isinstance(decision, Forward) and not self._request.body:
            self._forward = decision
            self._refreshed = False
            self.start()
        elif isinstance(decision, Respond):
            self._over = True
            self._client.answer(decision, close=self._client.body_pending)
        else:
            self._relay(held)
            if not self._over:
                self.upstream_end(trailers)

    def _relay(self, held: _HeldBack) -> None:
        self._relay_head(held.response)
        if not self._over:
            self.upstream_body(held.body())

    def upstream_switched(self, response: Response, rest: bytes) -> None:
        connection = self._connection
        assert connection is not None and response.upgrade is not None
        self._connection = None
        self._over = True
        if self._forward.switched is not None:
            self._forward.switched()
        try:
            fields = response.fields()
        except BadMessage as error:
            connection.abandon()
            self._client.answer(self._forward.error_response(ProxyError("protocol", error.message)), close=True)
            return
        fields += b"Connection: Upgrade\r\nUpgrade: " + response.upgrade + b"\r\n"
        transport, early = self._client.hand_over(fields, rest)
        if early:
            connection.transport.write(early)
        splice(self._context, self._client.handed_back, transport, connection.transport, len(early), len(rest))

    def upstream_lost(self, error: ProxyError) -> None:
        connection = self._connection
        self._connection = None
        fresh = connection is not None and connection.reused and not connection.answered
        self._failed(error, nothing_sent=fresh and self._request.replayable)

    # Failures

    def _failed(self, error: ProxyError, nothing_sent: bool) -> None:
        """Try elsewhere where that is safe, otherwise tell the client."""
        if self._over:
            return
        self._to_send.clear()
        self._held_back = None
        if self._client.begun:
            self._over = True
            self._client.cut()
            return
        if nothing_sent and not self._consumed:
            if error.stage in ("read", "write") and not self._refreshed:
                # An idle connection that its peer had closed says nothing about the upstream.
                self._refreshed = True
                self.dial_later()
                return
            self._failures += 1
            following = self._forward.following(self._failures) if self._forward.following is not None else None
            if following is not None:
                self._forward = following
                self._refreshed = False
                self.start()
                return
        self._give_up(error)

    def _give_up(self, error: ProxyError) -> None:
        self._drop_connection()
        self._over = True
        upgrade = self._request.upgrade is not None
        self._client.answer(self._forward.error_response(error), close=upgrade or self._consumed)

    def _cut(self) -> None:
        self._drop_connection()
        self._over = True
        self._client.cut()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
