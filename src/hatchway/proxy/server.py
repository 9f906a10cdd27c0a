"""Starts listeners (`serve`), each with a routing function that decides about each request (`proxy/routing.py`).

A listener serves HTTP, HTTPS, or both on one port (`sniff_tls`). Fields that a client lists in `Connection` are removed
before the routing function gets the request. `Upgrade: h2c` is ignored, as RFC 9110 section 7.8 allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl as ssl_module

from hatchway.errors import ApiError
from hatchway.proxy import transports
from hatchway.proxy.acceptor import Acceptor, TlsChooser
from hatchway.proxy.clientconnection import ClientConnection
from hatchway.proxy.context import Context, ErrorBody
from hatchway.proxy.heap import keep_freed
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import Respond, RoutingFunction

_REASONS = {
    400: "BadRequest",
    405: "MethodNotAllowed",
    408: "Timeout",
    414: "URITooLong",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
    503: "ServiceUnavailable",
}


def status_body(status: int, message: str) -> Respond:
    """Return a Kubernetes `Status` for an error that the engine has found. The default `error_body` of `serve`."""
    body = json.dumps(ApiError(status, _REASONS.get(status, ""), message).status()).encode()
    return Respond(status, [(b"Content-Type", b"application/json")], body)


class Engine:
    """The engine with a routing function. It serves the connections that are passed to `adopt`."""

    def __init__(self, context: Context, own_pool: bool) -> None:
        """Make an engine. Callers use `serve` or `serve_adopted` instead."""
        self._context = context
        self._own_pool = own_pool
        self._closed = False

    @property
    def connections(self) -> int:
        """Return the number of connected clients."""
        return len(self._context.connections)

    def adopt(self, connection: socket.socket, note: object = None) -> None:
        """Serve a connected socket that another listener has accepted. The engine then owns the socket.

        note: a value for the routing function, which gets it as `RequestHead.peer.note`.
        """
        connection.setblocking(False)
        self._context.spawn(self._adopted(connection, note), "connection")

    async def _adopted(self, connection: socket.socket, note: object) -> None:
        context = self._context
        try:
            await transports.accept(lambda: ClientConnection(context, False, note), connection, context.limits)
        except BaseException:
            connection.close()
            raise

    async def close(self, grace: float = 0.0) -> None:
        """Stop accepting connections, wait up to `grace` seconds for exchanges to end, and close all connections."""
        if self._closed:
            return
        self._closed = True
        context = self._context
        context.closing = True
        self._stop_listening()
        for connection in list(context.connections):
            connection.shut_down()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await context.wait_until_deserted()
        context.flush()
        for connection in list(context.connections):
            connection.abort()
        await context.end_tasks()
        if self._own_pool:
            context.pool.close()

    def _stop_listening(self) -> None:
        """Stop accepting connections. Subclasses that listen override this."""


class Server(Engine):
    """A listener that `serve` has started.

    sockets: the sockets on which it listens.
    """

    def __init__(self, context: Context, sock: socket.socket, own_pool: bool) -> None:
        super().__init__(context, own_pool)
        self._acceptor: Acceptor | None = None
        self.sockets = [sock]

    @property
    def port(self) -> int:
        """Return the TCP port; 0 for a Unix socket."""
        name = self.sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    def _stop_listening(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()


def serve_adopted(
    route: RoutingFunction, *, limits: Limits | None = None, error_body: ErrorBody = status_body
) -> Engine:
    """Return an engine without a listener; pass connections to `Engine.adopt`. Call this in a running event loop."""
    keep_freed()
    limits = limits if limits is not None else Limits()
    return Engine(Context(asyncio.get_running_loop(), route, limits, Pool(limits), error_body), own_pool=True)


async def serve(
    route: RoutingFunction,
    *,
    sock: socket.socket | None = None,
    host: str | None = None,
    port: int | None = None,
    ssl: ssl_module.SSLContext | TlsChooser | None = None,
    sniff_tls: bool = False,
    limits: Limits | None = None,
    pool: Pool | None = None,
    error_body: ErrorBody = status_body,
) -> Server:
    """Start a listener.

    Args:
        route: the routing function.
        sock: a bound socket that does not listen yet; None to use `host` and `port`.
        host: the IP address to listen on.
        port: the TCP port; 0 for any free port.
        ssl: a TLS context, to serve HTTPS; its verify_mode decides whether client certificates are requested. It may
            also be a function that returns the context for the server name in the client's TLS hello ("" for none); the
            function must be fast and must not raise.
        sniff_tls: with `ssl`, serve plain HTTP, too. The first byte of a connection shows whether it uses TLS.
        limits: sizes and times; None for the defaults.
        pool: a pool of connections to upstreams that is shared with other listeners; its creator closes it. None makes
            a new one.
        error_body: returns the response for an error that the engine itself has found, from its status and message.

    Raises:
        OSError: the address cannot be bound.
    """
    if sniff_tls and ssl is None:
        raise ValueError("sniff_tls needs ssl")
    keep_freed()
    loop = asyncio.get_running_loop()
    limits = limits if limits is not None else Limits()
    if sock is None:
        if host is None or port is None:
            raise ValueError("serve needs sock, or host and port")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family)
    sock.setblocking(False)
    context = Context(loop, route, limits, pool if pool is not None else Pool(limits), error_body)
    server = Server(context, sock, own_pool=pool is None)
    server._acceptor = Acceptor(context, sock, ssl, sniff_tls)
    return server
