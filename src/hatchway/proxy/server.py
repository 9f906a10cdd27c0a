"""Listeners: `serve` binds a routing function to a socket.

A listener speaks HTTP, HTTPS, or both on one port (`sniff_tls`), and carries every exchange as its routing function
decides (`proxy/routing.py`). Fields that a client lists in `Connection` are gone before the routing function sees
the request; `Upgrade: h2c` is ignored, as RFC 9110 section 7.8 allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl as ssl_module

from hatchway.errors import ApiError
from hatchway.proxy.acceptor import Acceptor
from hatchway.proxy.context import Context, ErrorBody
from hatchway.proxy.heap import keep_freed
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Respond, Route
from hatchway.proxy.upstream import Pool

_REASONS = {
    400: "BadRequest",
    405: "MethodNotAllowed",
    408: "Timeout",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
}


def status_body(status: int, message: str) -> Respond:
    """An engine-level error as a Kubernetes `Status`: the default wording of a listener."""
    body = json.dumps(ApiError(status, _REASONS.get(status, ""), message).status()).encode()
    return Respond(status, [(b"Content-Type", b"application/json")], body)


class Server:
    """A listener that `serve` has started.

    sockets: what it listens on. connections: how many clients are connected.
    """

    def __init__(self, context: Context, sock: socket.socket, own_pool: bool) -> None:
        self._context = context
        self._own_pool = own_pool
        self._acceptor: Acceptor | None = None
        self._closed = False
        self.sockets = [sock]

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket."""
        name = self.sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    @property
    def connections(self) -> int:
        return len(self._context.connections)

    async def close(self, grace: float = 0.0) -> None:
        """Stop listening, let exchanges finish for up to `grace` seconds, then cut what is left."""
        if self._closed:
            return
        self._closed = True
        context = self._context
        context.closing = True
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in list(context.connections):
            connection.shut_down()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await context.deserted()
        context.flush()
        for connection in list(context.connections):
            connection.abort()
        await context.end_tasks()
        if self._own_pool:
            context.pool.close()


async def serve(
    route: Route,
    *,
    sock: socket.socket | None = None,
    host: str | None = None,
    port: int | None = None,
    ssl: ssl_module.SSLContext | None = None,
    sniff_tls: bool = False,
    limits: Limits | None = None,
    pool: Pool | None = None,
    error_body: ErrorBody = status_body,
) -> Server:
    """Start a listener on `sock` (bound; it is made to listen) or on `host` and `port` (0: any free one).

    ssl: answer HTTPS; its verify_mode decides whether client certificates are asked for. sniff_tls: with `ssl`, answer
    plain HTTP too: a connection's first byte tells. pool: share upstream connections between listeners; whoever made
    it closes it. error_body: words the errors that the engine itself answers. Raises OSError when it cannot bind.
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
