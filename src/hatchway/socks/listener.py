"""The listener: accepts clients of SOCKS and HTTP on one loopback port, and joins each with the host it requests."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, cast

from hatchway.errors import ApiError, HatchwayError
from hatchway.proxy.join import EarlyReceiver, join, reset
from hatchway.proxy.server import Engine, serve_adopted
from hatchway.route.contract import ByteRoute, TargetUnreached, Unreached
from hatchway.socks.forwarding import HttpTunnel, ReportUnreached, RequestForwarding
from hatchway.socks.names import CLUSTER_DOMAIN
from hatchway.socks.opening import Opening, OpeningError, PageRequest, ProxiedRequest, TunnelRequest, page
from hatchway.socks.outside import connect_outside
from hatchway.socks.pac import CONTENT_TYPE, pac_file
from hatchway.socks.resolver import HostResolver, NotInCluster
from hatchway.socks.sniffing import sniff
from hatchway.target import Target
from hatchway.wire.socks import Reply

log = logging.getLogger(__name__)

# The maximum number of clients at the same time; the connections of further clients are closed at once.
MOST_CLIENTS: Final = 2048
# How long a client may take to send its request (seconds).
_OPENING_SECONDS: Final = 20.0
# How long to wait for a ready pod (seconds): long enough for a service that is being rolled out.
_PATIENCE: Final = 5.0

_REPLIES: Final = {
    Unreached.AWAY: Reply.NETWORK_UNREACHABLE,
    Unreached.NO_CREDENTIALS: Reply.NOT_ALLOWED,
    Unreached.CREDENTIALS: Reply.NOT_ALLOWED,
    Unreached.NODE_AWAY: Reply.NETWORK_UNREACHABLE,
    Unreached.NODE_REFUSES: Reply.NOT_ALLOWED,
    Unreached.FORBIDDEN: Reply.NOT_ALLOWED,
    Unreached.MISSING: Reply.HOST_UNREACHABLE,
    Unreached.OUT_OF_REACH: Reply.HOST_UNREACHABLE,
    Unreached.NO_PODS: Reply.HOST_UNREACHABLE,
    Unreached.FAILED: Reply.FAILURE,
    Unreached.REFUSED: Reply.CONNECTION_REFUSED,
}


class TunnelRefused(Exception):
    """A tunnel cannot be opened. reply: the answer for the client. error: the reason, for people."""

    def __init__(self, reply: Reply, error: HatchwayError | TargetUnreached) -> None:
        super().__init__(error.message)
        self.reply = reply
        self.error = error


class ProxyListener:
    """Listens on 127.0.0.1, and connects clients by a route to the hosts that they request. Start it with `open`."""

    def __init__(
        self,
        route: ByteRoute,
        resolver: HostResolver,
        report: ReportUnreached,
        *,
        domain: str = CLUSTER_DOMAIN,
        allow_outside: bool = False,
    ) -> None:
        """Make a listener.

        Args:
            route: carries bytes to services and pods.
            resolver: finds the services and pods by their names.
            report: called for each connection that could not be opened.
            domain: the cluster's DNS domain, for the PAC file.
            allow_outside: True to connect to hosts outside the cluster, from this machine.
        """
        self._route = route
        self._resolver = resolver
        self._report = report
        self._domain = domain
        self._allow_outside = allow_outside
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._engine: Engine | None = None
        self.clients: set[_WaitingClient] = set()
        self.port = 0

    async def open(self, port: int) -> None:
        """Listen. port: 0 for any free one. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        forwarding = RequestForwarding(self._route, self._resolver, self._report, allow_outside=self._allow_outside)
        self._engine = serve_adopted(forwarding.decide)
        self._server = await loop.create_server(lambda: _WaitingClient(self), "127.0.0.1", port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def aclose(self) -> None:
        """Stop listening, and abort all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for client in list(self.clients):
            client.transport.abort()
        if self._engine is not None:
            await self._engine.close()

    def start(self, client: _WaitingClient, asked: TunnelRequest | ProxiedRequest | PageRequest) -> asyncio.Task[None]:
        """Start a task that serves a client's request; return the task."""
        task = asyncio.get_running_loop().create_task(self._serve(client, asked), name="proxied connection")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._served(client, done))
        return task

    def _served(self, client: _WaitingClient, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self.clients.discard(client)
        elif (error := task.exception()) is not None:
            # A fault of this program must not let this client wait for ever, nor disturb the others.
            log.error("a proxied connection failed", exc_info=error)
            client.transport.abort()

    async def _serve(self, client: _WaitingClient, asked: TunnelRequest | ProxiedRequest | PageRequest) -> None:
        match asked:
            case PageRequest():
                client.end_with(self._page(asked))
            case ProxiedRequest():
                client.join(client.release(asked.head), await self._to_engine())
            case TunnelRequest():
                try:
                    far, target = await self._connect(asked.host, asked.port)
                except TunnelRefused as refused:
                    self._report(f"{asked.host}:{asked.port}", refused.error)
                    client.end_with(client.opening.refuse(refused.reply, refused.error.message))
                    return
                near = client.accept(asked.rest)
                if isinstance(far, EarlyReceiver) or near.transport.is_closing():
                    client.join(near, far)
                else:
                    assert target is not None
                    await self._serve_tunnel(client, near, HttpTunnel(asked.host, asked.port, target, far, self._route))

    async def _serve_tunnel(self, client: _WaitingClient, near: EarlyReceiver, tunnel: HttpTunnel) -> None:
        """Join the sides of a tunnel to the cluster: through the HTTP engine if the client speaks HTTP/1."""
        found = await sniff(near, tunnel.take())
        if not found.http:
            client.join(found.near, found.far)
        elif found.answered:
            # HTTP servers do not send first. So the server speaks another protocol, and a web page may have made a
            # browser send this request.
            self._report(
                f"{tunnel.host}:{tunnel.port}",
                HatchwayError("an HTTP request was sent to a port that does not speak HTTP"),
            )
            reset(found.near.transport)
            reset(found.far.transport)
            self.clients.discard(client)
        else:
            tunnel.keep(found.far)
            client.join(found.near, await self._to_engine(tunnel), tunnel.close)

    async def _connect(self, host: str, port: int) -> tuple[asyncio.Transport | EarlyReceiver, Target | None]:
        """Open a connection to a host. Return (the connection, its target or None outside the cluster).

        Raises TunnelRefused.
        """
        try:
            target = await self._resolver.resolve(host, port)
        except NotInCluster as error:
            if not self._allow_outside:
                error.hint = await self._resolver.suggest(host)
                raise TunnelRefused(Reply.NOT_ALLOWED, error) from error
            try:
                return await connect_outside(host, port), None
            except OSError as failed:
                raise TunnelRefused(Reply.HOST_UNREACHABLE, HatchwayError(f"{host}: {failed}")) from failed
        except ApiError as error:
            reply = Reply.NETWORK_UNREACHABLE if error.code == 503 else Reply.NOT_ALLOWED
            raise TunnelRefused(reply, error) from error
        except HatchwayError as error:
            raise TunnelRefused(Reply.FAILURE, error) from error
        try:
            return await self._route.connect(target, _PATIENCE), target
        except TargetUnreached as error:
            raise TunnelRefused(_REPLIES[error.cause], error) from error

    async def _to_engine(self, tunnel: HttpTunnel | None = None) -> asyncio.Transport:
        """Return a new connection to the HTTP engine of this process.

        tunnel: the tunnel to whose target the requests go; None for requests to a proxy.
        """
        assert self._engine is not None
        outer, inner = socket.socketpair()
        for end in (outer, inner):
            end.setblocking(False)
        try:
            self._engine.adopt(inner, tunnel)
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(EarlyReceiver, outer)
        except BaseException:
            outer.close()
            raise
        return transport

    def _page(self, asked: PageRequest) -> bytes:
        """Return the PAC file for a request with this proxy's own address as Host; else an answer without content."""
        # `Host` has another name when a site's name was made to resolve to this machine (DNS rebinding).
        if asked.host not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return page(400, "")
        if asked.path.partition("?")[0] != "/proxy.pac":
            return page(404, "")
        return page(200, pac_file(self.port, self._domain), CONTENT_TYPE)


class _WaitingClient(asyncio.Protocol):
    """A client whose request is not complete yet, or not joined with a connection.

    opening: parses its request.
    """

    transport: asyncio.Transport

    def __init__(self, listener: ProxyListener) -> None:
        self.opening = Opening()
        self._listener = listener
        self._late = EarlyReceiver()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        clients = self._listener.clients
        if len(clients) >= MOST_CLIENTS:
            self.transport.abort()
            return
        clients.add(self)
        self._timer = asyncio.get_running_loop().call_later(_OPENING_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            # Bytes that the event loop had read before reading was paused.
            self._late.early += data
            return
        try:
            asked = self.opening.receive_data(data)
        except OpeningError:
            self.end_with(self.opening.data_to_send())
            return
        answer = self.opening.data_to_send()
        if answer:
            self.transport.write(answer)
        if asked is not None:
            self._stop_timer()
            # Bytes that arrive from now on belong to the connection's other side.
            self.transport.pause_reading()
            self._task = self._listener.start(self, asked)

    def eof_received(self) -> bool:
        self._late.eof = True
        return self._task is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        self._listener.clients.discard(self)

    def end_with(self, answer: bytes) -> None:
        """Send an answer, and close."""
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def accept(self, first: bytes) -> EarlyReceiver:
        """Send the client the answer for an open tunnel, and return the client's side. first: as in `release`."""
        if not self.transport.is_closing():
            self.transport.write(self.opening.accept())
        return self.release(first)

    def release(self, first: bytes) -> EarlyReceiver:
        """Return the client's side, to be joined with the other side. first: the first bytes for the other side."""
        near = self._late
        near.transport, near.early = self.transport, first + near.early
        return near

    def join(
        self, near: EarlyReceiver, far: asyncio.Transport | EarlyReceiver, ended: Callable[[], None] = lambda: None
    ) -> None:
        """Join the client's side with the other side. ended: called when both sides are closed."""
        if near.transport.is_closing():
            (far.transport if isinstance(far, EarlyReceiver) else far).abort()
            self._listener.clients.discard(self)
            ended()
            return

        def done(_: Exception | None) -> None:
            self._listener.clients.discard(self)
            ended()

        join(near, far, done)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
