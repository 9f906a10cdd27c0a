"""A forwarded exchange: streams a client's request to an upstream, and the upstream's response to the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from hatchway.proxy.budget import SMALL
from hatchway.proxy.cache import CachedHead
from hatchway.proxy.context import Context
from hatchway.proxy.contracts import ExchangeClient
from hatchway.proxy.exchangeparts import EditFailed, ExchangeState, HeldBack, edit_head, explain
from hatchway.proxy.fields import BadMessage, trailer_lines
from hatchway.proxy.heads import CHUNKED, Request, Response
from hatchway.proxy.routing import Forward, Headers, ProxyError, RequestHead, Respond, Upstream, get_header
from hatchway.proxy.splice import switch
from hatchway.proxy.transforming import TransformedBody
from hatchway.proxy.upstream import UpstreamConnection

logger = logging.getLogger("hatchway.proxy")

_NO_ROOM: Final = "too many responses with large heads at once, please try again later"
_DIALING, _REDIALING, _WAITING, _HOLDING, _DECIDING, _RELAYING, _OVER = ExchangeState


class ForwardExchange:
    """Relays between one client connection and one upstream connection (`contracts.Exchange`, `contracts.Consumer`).

    Backpressure: while the upstream reads too slowly, nothing is read from the client, and while the client reads too
    slowly, nothing is read from the upstream. After `ExchangeClient.send_whole` the object may serve another exchange.
    """

    # Defaults of attributes that are seldom set. With `__slots__` each exchange would have to set them.
    _connection: UpstreamConnection | None = None
    _task: asyncio.Task[None] | None = None
    _transform: TransformedBody | None = None
    _held_back: HeldBack | None = None
    _failures = 0
    _state = _OVER

    def __init__(self, client: ExchangeClient, context: Context) -> None:
        """Make an exchange; `start` begins it."""
        self._client = client
        self._writer = client.writer
        self._context = context
        self._to_send: list[bytes] = []

    # The request: `contracts.Exchange`

    def start(self, request: Request, head: RequestHead | None, forward: Forward, cached: CachedHead | None) -> None:
        """Send a request as `forward` says.

        head: the head with its `answer_field`; None when a cached decision did not need it.
        cached: the decision about the head, which is cached now or after the response; None when it is not cached.
        """
        self._request = request
        self._added = None if head is None else head.answer_field
        self._forward = forward
        self._cached = cached
        self._failures = 0
        if request.plain and cached is not None and cached.forward is forward:
            connection = self._context.pool.take(forward.upstream.key, False)
            if connection is not None:
                # The head is the same as last time, and a connection is idle: send the head at once.
                self._head = cached.sent
                self._connection = connection
                self._state = _WAITING
                connection.begin(self, request.method, False, False)
                self._context.write(connection.transport, cached.sent)
                return
        self._send(forward)

    def _send(self, forward: Forward) -> None:
        request, cached = self._request, self._cached
        try:
            self._head = request.head_for(forward) if cached is None else cached.head_for(forward)
        except BadMessage as error:
            logger.error("the request that the routing function has made is malformed: %s", error.message)
            self._state = _OVER
            self._client.fail(500, "internal error")
            return
        connection = None
        if request.upgrade is None:
            connection = self._context.pool.take(forward.upstream.key, check=not request.replayable)
        if connection is None:
            self._dial(_DIALING)
        else:
            self._attach(connection)

    def _dial(self, state: ExchangeState) -> None:
        self._state = state
        self._client.hold()
        self._task = self._context.spawn(self._connect(self._forward.upstream), "dial")

    async def _connect(self, upstream: Upstream) -> None:
        try:
            connection = await self._context.pool.connect(upstream)
        except Exception as error:  # `Upstream.connect` is the routing function's code, and may raise anything
            if not isinstance(error, ProxyError):
                logger.exception("connecting to an upstream failed")
                error = ProxyError("dial", str(error))
            self._task = None
            self._failed(error, nothing_sent=True)
            return
        self._task = None
        self._attach(connection)
        self._client.release()

    def _attach(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self._state = _WAITING
        request = self._request
        sending = request.body != 0 and self._client.body_pending
        connection.begin(self, request.method, request.upgrade is not None, sending)
        if not sending:
            self._context.write(connection.transport, self._head)
            return
        # Usually the first piece of the body has arrived already; it is sent together with the head.
        self._to_send.append(self._head)
        if request.expects_continue and get_header(self._forward.headers, b"expect") is None:
            # The upstream does not get the `Expect` field, so it will send no 100 Continue.
            self._writer.send_interim(100, b"")

    @property
    def takes_bulk(self) -> bool:
        """Return True if the upstream's transport copies bytes that it cannot send at once, as `bulk.py` requires."""
        return self._connection is None or self._connection.in_bulk

    def body(self, data: bytes) -> None:
        """Add a piece of the body to the bytes that `flush` writes."""
        if self._connection is None:
            return
        if self._request.body == CHUNKED:
            self._to_send += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._to_send.append(data)

    def body_now(self, data: memoryview) -> None:
        """Write a piece of the body at once."""
        connection = self._connection
        if connection is not None:
            self.flush()
            if not connection.transport.is_closing():  # `connection_lost` may not have been called yet
                connection.transport.write(data)

    def body_end(self, trailers: Headers) -> None:
        """Add the end of the body to the bytes that `flush` writes."""
        if self._connection is None:
            return
        if self._request.body == CHUNKED:
            self._to_send.append(b"0\r\n" + trailer_lines(trailers))
        self._connection.sending = False

    def flush(self) -> None:
        """Write the collected bytes of the request."""
        pending = self._to_send
        if pending and self._connection is not None:
            self._context.flush()
            self._connection.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))
            pending.clear()

    def client_full(self) -> None:
        """Stop reading the response."""
        if self._transform is not None:
            self._transform.hold()
        if self._connection is not None:
            self._connection.pause()

    def client_ready(self) -> None:
        """Continue to read the response."""
        if self._transform is not None:
            self._transform.release()
        if self._transform is None or not self._transform.busy:
            self._resume_reading()

    def client_lost(self) -> None:
        """End the exchange, and write nothing to the client."""
        self._state = _OVER
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._drop()

    # The response: `contracts.Consumer`

    def upstream_full(self) -> None:
        """Stop reading the request's body."""
        self._client.hold(pause=True)

    def upstream_ready(self) -> None:
        """Continue to read the request's body."""
        self._client.release()

    def _has_room(self, response: Response) -> bool:
        """Reserve memory for a response's head. When none is left, give up the exchange and return False."""
        if len(response.block) <= SMALL or self._client.hold_head(response.block):
            return True
        self._give_up(ProxyError("protocol", _NO_ROOM))
        return False

    def upstream_interim(self, response: Response) -> None:
        """Relay an interim response."""
        if not self._has_room(response):
            return
        try:
            self._writer.send_interim(response.head.status, response.fields())
        except BadMessage:
            logger.error("an interim response is malformed and was not relayed")

    def upstream_head(self, response: Response) -> None:
        """Relay the head, or hold the response back until the routing function has reconsidered."""
        if not self._has_room(response):
            return
        forward = self._forward
        if (response.head.status >= 400 or forward.reconsider_all) and forward.reconsider is not None:
            decide = forward.reconsider(response.copy_head())
            if decide is not None:
                self._held_back = HeldBack(response, decide)
                self._state = _HOLDING
                return
        self._relay_head(response)

    def _relay_head(self, response: Response) -> None:
        status = response.head.status
        if self._request.upgrade is not None and status < 400:
            # The client may already send bytes of the new protocol, which must not be parsed as requests.
            self._give_up(ProxyError("upgrade", f"invalid upgrade response: status code {status}", status))
            return
        try:
            edited = edit_head(self._request, self._forward, response, self._added, self._cached)
        except EditFailed:
            logger.exception("editing a response failed")
            self._drop()
            self._state = _OVER
            self._client.fail(500, "internal error", close=self._client.body_pending)
            return
        except BadMessage as error:
            self._give_up(ProxyError("protocol", error.message))
            return
        self._state = _RELAYING
        self._writer.begin(edited.status, edited.lines, edited.added, edited.framed)
        if edited.transform is not None:
            self._transform = TransformedBody(
                self._context.loop, edited.transform, self._emit, self._resume_reading, self._transform_failed
            )

    def upstream_whole(self, response: Response, body: bytes) -> None:
        """Relay a complete response. If its head equals the last response's head, send the same edited head again."""
        self._connection = None
        cached = self._cached
        relayed = cached.relayed if cached is not None else None
        if relayed is not None and relayed.forward is self._forward and relayed.block == response.block:
            head = relayed.head
            if self._added is not None:
                try:
                    head = relayed.head_with(self._added)
                except BadMessage as error:
                    self._give_up(ProxyError("protocol", error.message))
                    return
            if head:
                self._state = _OVER
                if self._to_send:
                    self._to_send.clear()
                self._client.send_whole(relayed.status, head, body)
                return
        self.upstream_head(response)
        if body and (self._state is _RELAYING or self._state is _HOLDING):
            self.upstream_body(body)
        if self._state is _RELAYING or self._state is _HOLDING:
            self.upstream_end([])

    def upstream_body(self, data: bytes) -> None:
        """Relay a piece of the body, through the transform if there is one."""
        held = self._held_back
        if held is not None:
            held.add(data)
            if held.is_too_long:
                self._held_back = None
                self._relay(held)
        elif self._transform is not None:
            self._transform.feed(data)
            if self._transform.busy and self._connection is not None:
                self._connection.pause()
        else:
            self._writer.send(data)

    def _emit(self, data: bytes) -> None:
        """Write a transform's output at once, because collecting several slices would take too much memory."""
        self._writer.send(data)
        self._writer.push()

    def _transform_failed(self) -> None:
        logger.exception("transforming a response failed")
        self._cut()

    def _resume_reading(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def upstream_bulk(self) -> Callable[[memoryview], None] | None:
        """Return the function that writes the body to the client; None when a transform must get the body."""
        return self._writer.send_now if self._state is _RELAYING and self._transform is None else None

    def upstream_flush(self) -> None:
        """Write the collected bytes of the response."""
        self._writer.push()

    def upstream_end(self, trailers: Headers) -> None:
        """End the exchange, or let the routing function reconsider a response that was held back."""
        self._connection = None
        self._to_send.clear()
        held, self._held_back = self._held_back, None
        if held is not None:
            self._state = _DECIDING
            self._task = self._context.spawn(self._reconsider(held, trailers), "reconsider")
        elif self._transform is not None:
            self._transform.end(partial(self._finish_transform, self._transform, trailers))
        else:
            self._finish(trailers)

    def _finish_transform(self, transform: TransformedBody, trailers: Headers) -> None:
        if transform.finish():
            self._finish(trailers)

    def _finish(self, trailers: Headers) -> None:
        self._state = _OVER
        self._transform = None
        self._client.complete(trailers)

    async def _reconsider(self, held: HeldBack, trailers: Headers) -> None:
        decision = await held.decision()
        self._task = None
        if isinstance(decision, Forward) and not self._request.body:
            self._forward = decision
            self._send(decision)
        elif isinstance(decision, Respond):
            self._state = _OVER
            self._client.answer(decision, close=self._client.body_pending)
        else:
            self._relay(held)
            if self._state is _RELAYING:
                self.upstream_end(trailers)

    def _relay(self, held: HeldBack) -> None:
        self._relay_head(held.response)
        if self._state is _RELAYING:
            self.upstream_body(held.body())

    def upstream_switched(self, response: Response, rest: bytes) -> None:
        """Send the 101 to the client, and join both transports."""
        connection = self._connection
        assert connection is not None and response.upgrade is not None
        self._connection = None
        self._state = _OVER
        if self._forward.switched is not None:
            self._forward.switched()
        try:
            if len(response.block) > SMALL and not self._client.hold_head(response.block):
                raise BadMessage(_NO_ROOM)
            fields = response.fields()
        except BadMessage as error:
            connection.abandon()
            self._give_up(ProxyError("protocol", error.message))
            return
        fields += b"Upgrade: " + response.upgrade + b"\r\n"
        switch(self._context, self._client, connection.transport, fields, rest)

    # Failures

    def upstream_lost(self, error: ProxyError) -> None:
        """Try again, answer with an error, or close the client's connection."""
        connection = self._connection
        self._connection = None
        stale = connection is not None and connection.reused and not connection.answered
        self._failed(error, nothing_sent=stale and self._request.replayable)

    def _failed(self, error: ProxyError, nothing_sent: bool) -> None:
        """Try again if that is safe; otherwise answer with an error, or close the client's connection."""
        if self._state is _OVER:
            return
        self._to_send.clear()
        held, self._held_back = self._held_back, None
        if held is not None:
            # The client gets the part of the response that has arrived.
            self._relay(held)
            if self._state is not _RELAYING:
                return
            self._writer.push()
        if self._state is _RELAYING:
            if self._transform is not None:
                self._transform.end(self._cut)
            else:
                self._cut()
            return
        if nothing_sent and not self._client.body_begun:
            if error.stage in ("read", "write") and self._state is not _REDIALING:
                self._dial(_REDIALING)
                return
            self._failures += 1
            choose = self._forward.next_upstream
            replacement = choose(self._failures) if choose is not None else None
            if replacement is not None:
                self._forward = replacement
                self._send(replacement)
                return
        self._give_up(error)

    def _give_up(self, error: ProxyError) -> None:
        self._drop()
        begin = self._forward.explain_error
        explained = begin(error) if begin is not None else None
        if explained is not None:
            self._state = _DECIDING
            self._task = self._context.spawn(self._explain(explained, error), "explain an error")
        else:
            self._answer_error(self._forward.error_response(error))

    async def _explain(self, explained: Awaitable[Respond | Forward], error: ProxyError) -> None:
        answer = await explain(explained, self._forward, error)
        self._task = None
        if isinstance(answer, Respond):
            self._answer_error(answer)
        elif self._request.body:
            self._answer_error(self._forward.error_response(error))
        else:
            self._forward = answer
            self._send(answer)

    def _answer_error(self, answer: Respond) -> None:
        self._state = _OVER
        upgrade = self._request.upgrade is not None
        self._client.answer(answer, close=upgrade or self._client.body_begun)

    def _cut(self) -> None:
        self._drop()
        self._state = _OVER
        self._client.cut()

    def _drop(self) -> None:
        transform, self._transform = self._transform, None
        if transform is not None:
            transform.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
