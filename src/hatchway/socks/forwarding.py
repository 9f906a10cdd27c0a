"""HTTP requests to a proxy (`GET http://web.shop/ HTTP/1.1`): chooses the service or pod that gets each request.

The engine calls the routing function for each request: a client uses one connection to a proxy for requests to several
hosts, and a request for one host must not reach another host.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from hatchway.errors import ApiError, HatchwayError
from hatchway.proxy.join import EarlyReceiver
from hatchway.proxy.routing import Forward, Headers, ProxyError, RequestHead, Respond, Upstream
from hatchway.route.contract import ByteRoute, TargetUnreached
from hatchway.socks.outside import connect_outside
from hatchway.socks.resolver import HostResolver, NotInCluster
from hatchway.target import Target

_AUTHORITY: Final = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?\Z")
# Request fields for the proxy, which the host must not get.
_FOR_PROXIES: Final = frozenset({b"proxy-authorization", b"proxy-connection"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

# A function that is called with HOST:PORT, and with the reason why this host was not reached.
ReportUnreached = Callable[[str, HatchwayError | TargetUnreached], None]


class HttpTunnel:
    """A tunnel to a target of the cluster, in which a client speaks HTTP.

    host, port: the host and port that the client has requested. target: the service or pod that they name.
    """

    def __init__(self, host: str, port: int, target: Target, connection: asyncio.Transport, route: ByteRoute) -> None:
        """Make a tunnel.

        connection: the tunnel's first connection to the target. route: opens connections for later requests.
        """
        self.host = host
        self.port = port
        self.target = target
        self._connection: asyncio.Transport | None = connection
        self._route = route

    def take(self) -> asyncio.Transport:
        """Remove the tunnel's first connection, and return it. Call this only while the connection is stored."""
        connection, self._connection = self._connection, None
        assert connection is not None
        return connection

    def keep(self, connection: EarlyReceiver) -> None:
        """Store the first connection again, for the next request."""
        self._connection = connection.transport

    async def connect(self) -> asyncio.Transport:
        """Return a connection to the target: the first one, if no request has used it. Raises TargetUnreached."""
        if self._connection is not None:
            connection = self.take()
            if not connection.is_closing():
                return connection
        return await self._route.connect(self.target)

    def close(self) -> None:
        """Close the connection, if no request has used it."""
        if self._connection is not None:
            self.take().abort()


class RequestForwarding:
    """The routing function for requests to the proxy and for requests in tunnels."""

    def __init__(
        self, route: ByteRoute, resolver: HostResolver, report: ReportUnreached, *, allow_outside: bool
    ) -> None:
        self._route = route
        self._resolver = resolver
        self._report = report
        self._allow_outside = allow_outside

    async def decide(self, head: RequestHead) -> Forward | Respond:
        """Return a Forward to the request's target, or a response with the reason for a failure; report failures."""
        if isinstance(head.peer.note, HttpTunnel):
            return await self._decide_tunneled(head, head.peer.note)
        authority = (head.header(b"host") or b"").decode("latin-1")
        found = _AUTHORITY.match(authority)
        port = int(found[2] or 80) if found is not None else 0
        if found is None or not 0 < port < 65536:
            return _answer(400, "the request names no host; use this port as a proxy (GET http://HOST/)")
        host = found[1].strip("[]")
        try:
            target = await self._resolver.resolve(host, port)
        except NotInCluster as error:
            if not self._allow_outside:
                error.hint = await self._resolver.suggest(host)
                return self._refuse(403, authority, error)
            upstream = Upstream(("outside", host, port), functools.partial(_outside, host, port))
        except ApiError as error:
            return self._refuse(503 if error.code == 503 else 502, authority, error)
        except HatchwayError as error:
            return self._refuse(502, authority, error)
        else:
            if not await self._is_origin_allowed(head, {host.lower()}):
                return _refuse_page(host)
            upstream = self._route.route_to(target).upstream
        headers: Headers = [field for field in head.headers if field[0].lower() not in _FOR_PROXIES]
        return Forward(upstream, head.target, headers, lambda error: self._failed(authority, error))

    async def _decide_tunneled(self, head: RequestHead, tunnel: HttpTunnel) -> Forward | Respond:
        """Return the decision about a request in a tunnel. Its host is checked, but does not change the target."""
        authority = (head.header(b"host") or b"").decode("latin-1") or tunnel.host
        found = _AUTHORITY.match(authority)
        if found is None:
            return _answer(400, "the request names no host")
        host = found[1].strip("[]").lower()
        if not self._is_host_allowed(host, tunnel):
            return _answer(
                403,
                f"{host} is not known as a name of {tunnel.host}; let this proxy resolve the name (with curl: socks5h://)",
            )
        if not await self._is_origin_allowed(head, {host, tunnel.host.lower()}):
            return _refuse_page(tunnel.host)
        upstream = Upstream(self._route.route_to(tunnel.target).upstream.key, tunnel.connect)
        return Forward(upstream, head.target, head.headers, lambda error: self._failed(authority, error))

    def _is_host_allowed(self, host: str, tunnel: HttpTunnel) -> bool:
        """Return False when `host`, the request's Host, may be the name of a site on the Internet (DNS rebinding).

        A browser that resolves names itself requests a tunnel to an address, and sends the name in `Host`. The owner of
        a site can make its name resolve to an address of the cluster. A client that requests a tunnel by name has named
        the target itself, so it may send any `Host`.
        """
        try:
            ipaddress.ip_address(tunnel.host)
        except ValueError:
            return True
        return host == tunnel.host or self._resolver.is_private(host)

    async def _is_origin_allowed(self, head: RequestHead, hosts: set[str]) -> bool:
        """Return True for a request without `Origin`, or from a page of these hosts, of the cluster or of this machine.

        In a browser that uses this proxy, every page can send requests into the cluster. Requests from pages of the
        Internet are refused (Fetch standard, `Origin` header).
        """
        origin = head.header(b"origin")
        if origin is None:
            return True
        try:
            parts = urlsplit(origin.decode("latin-1"))
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if "@" in parts.netloc:
            return False  # no browser sends a user name in Origin
        if name in _LOOPBACK or name in hosts:
            return True
        if not self._resolver.is_private(name):
            return False  # `web.dev` may be a service of the cluster, but it is also a site of the Internet
        try:
            await self._resolver.resolve(name, port)
        except HatchwayError:
            return False
        return True

    def _refuse(self, status: int, authority: str, error: HatchwayError) -> Respond:
        self._report(authority, error)
        return _answer(status, error.message)

    def _failed(self, authority: str, error: ProxyError) -> Respond:
        self._report(authority, HatchwayError(error.message))
        return _answer(504 if error.silent else 502, f"{authority}: {error.message}")


async def _outside(host: str, port: int) -> asyncio.Transport:
    return (await connect_outside(host, port)).transport


def _refuse_page(host: str) -> Respond:
    return _answer(403, f"a page of another origin may not send requests to {host}")


def _answer(status: int, text: str) -> Respond:
    headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
    return Respond(status, headers, f"{text}\n".encode())
