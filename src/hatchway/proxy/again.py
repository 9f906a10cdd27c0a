"""The exchange of a request that comes again: the same head of the same client, forwarded as it was before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatchway.proxy.context import Context
from hatchway.proxy.exchange import ForwardExchange
from hatchway.proxy.heads import Request, Response
from hatchway.proxy.routing import Forward, Headers, ProxyError
from hatchway.proxy.upstream import Reader, UpstreamConnection

if TYPE_CHECKING:
    from hatchway.proxy.connection import ClientConnection


class AgainExchange:
    """One object for all such exchanges of a client's connection, one at a time.

    As long as the answer comes whole, too, and is like the one before but for its body, nothing else is needed. Whatever
    else happens, a `ForwardExchange` goes on from there.
    """

    __slots__ = ("_client", "_connection", "_context", "_forward", "_head", "_request")

    _forward: Forward
    _head: bytes
    _request: Request

    def __init__(self, client: ClientConnection, context: Context) -> None:
        self._client = client
        self._context = context
        self._connection: UpstreamConnection | None = None

    def start(self, request: Request, forward: Forward, head: bytes) -> None:
        """request: plain (`Request.plain`). head: as it was sent before."""
        self._request = request
        self._forward = forward
        self._head = head
        connection = self._context.pool.take(forward.upstream.key, check=False)
        if connection is None:
            self._go_on().dial_later()
            return
        self._connection = connection
        connection.begin(self, request.method, False, False)
        self._context.write(connection.transport, head)

    def _go_on(self) -> ForwardExchange:
        connection, self._connection = self._connection, None
        exchange = ForwardExchange(self._client, self._context, self._request, self._forward, None)
        exchange.resume(self._head, connection)
        self._client.exchange_is(exchange)
        if connection is not None:
            connection.pass_on(self, exchange)
        return exchange

    # What the client's connection tells it; the request has no body

    def body(self, data: bytes) -> None: ...

    def body_end(self, trailers: Headers) -> None: ...

    def flush(self) -> None: ...

    def client_full(self) -> None:
        self._go_on().client_full()

    def client_ready(self) -> None:
        self._go_on().client_ready()

    def client_lost(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    # What the upstream's connection tells it

    def upstream_whole(self, response: Response, body: bytes) -> None:
        relayed = response.relayed
        if relayed is not None and relayed.forward is self._forward and not relayed.added:
            self._connection = None
            self._client.whole(relayed.status, relayed.head, body)
        else:
            self._go_on().upstream_whole(response, body)

    def upstream_pieces(self) -> Reader:
        return self._go_on()

    def upstream_lost(self, error: ProxyError) -> None:
        self._go_on().upstream_lost(error)

    def upstream_full(self) -> None:
        self._go_on().upstream_full()

    def upstream_ready(self) -> None:
        self._go_on().upstream_ready()
