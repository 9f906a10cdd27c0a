"""The routing function: finds the backend of a request, and forwards it to one of the backend's endpoints.

A backend gets the client's own `Host`. This program sets `X-Forwarded-For`, `X-Real-IP`, `X-Forwarded-Host`,
`X-Forwarded-Port` and `X-Forwarded-Proto` from the connection. These fields, other spellings of them, and `Forwarded`
are removed from the client's request. `CDN-Loop` (RFC 8586) counts how often a request has passed this program, because
an endpoint may be this program itself, or lead to it. `Via` could count this, too, but nginx does not compress answers
to requests with `Via`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hatchway.addons.ingress.answers import page
from hatchway.addons.ingress.backends import Backends, ResolvedBackend
from hatchway.addons.ingress.hostroutes import RouteTable
from hatchway.proxy.routing import (
    CachedDecision,
    Decision,
    Forward,
    Headers,
    ProxyError,
    RequestHead,
    Respond,
)
from hatchway.rewrite.location import collapse_path

__all__ = ["IngressRouter"]

_DOT_SEGMENT = re.compile(rb"/(?:\.|%2[eE]){1,2}(?:/|\Z)")
_SHOWN = 200
# The maximum number of endpoints that are tried for one request.
_TRIES = 5
# The name in `CDN-Loop`, and how often a request may come through the controller.
_LOOP, _NAME = b"cdn-loop", b"hatchway-ingress"
_MAX_PASSES = 5
_DEFAULT_PORTS = {"http": b"80", "https": b"443"}


class IngressRouter:
    """Routes requests by a table, which `use` may replace at any time.

    backends: finds the endpoints of backends.
    """

    def __init__(self, backends: Backends) -> None:
        self.table = RouteTable()
        self._backends = backends
        self._changes = 0

    @property
    def version(self) -> tuple[int, int]:
        """Return a value that is different after each change that may affect decisions."""
        return self._changes, self._backends.version

    def use(self, table: RouteTable) -> None:
        """Replace the table."""
        self.table = table
        self._changes += 1

    def route(self, head: RequestHead) -> Decision:
        """Return the decision about a request (a `RoutingFunction`)."""
        if head.method in ("CONNECT", "TRACE"):
            return page(head.headers, 405, f"The method {head.method} is not served here.")
        if sum(value.count(_NAME) for name, value in head.headers if name.lower() == _LOOP) >= _MAX_PASSES:
            return page(head.headers, 508, "The endpoints of this Service lead back to the ingress controller.")
        path = collapse_path(head.path) if _DOT_SEGMENT.search(head.path) else head.path
        host, port = _split_host(head.header(b"host") or b"")
        backend = self.table.find(host, path)
        if backend is None:
            shown = f"{host or 'this address'}{path.decode('latin-1')}"
            if len(shown) > _SHOWN:
                shown = shown[:_SHOWN] + "…"
            return page(head.headers, 404, f"No Ingress of this cluster has a rule for {shown}")
        resolved = self._backends.resolve(backend)
        if not resolved.upstreams:
            return page(head.headers, 503, resolved.why)
        target = path if head.query is None else path + b"?" + head.query
        decision = _RoutedRequest(self, self.version, resolved, target, _headers(head, port))
        head.cached = decision
        return decision.forward()


class _RoutedRequest(CachedDecision):
    """A request that can be forwarded again to the next endpoint in turn, until routes or endpoints change."""

    __slots__ = ("_forwards", "_headers", "_resolved", "_router", "_target", "_version")

    def __init__(
        self,
        router: IngressRouter,
        version: tuple[int, int],
        resolved: ResolvedBackend,
        target: bytes,
        headers: Headers,
    ) -> None:
        self._router = router
        self._version = version
        self._resolved = resolved
        self._target = target
        self._headers = headers
        self._forwards: dict[int, Forward] = {}

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision | None:
        """Return the Forward to the next endpoint; None after a change of routes or endpoints."""
        return self.forward() if self._version == self._router.version else None

    def forward(self) -> Forward:
        """Return the Forward to the next endpoint in turn."""
        at = self._resolved.next()
        found = self._forwards.get(at)
        if found is None:
            found = self._forwards[at] = _EndpointChoice(self._resolved, at, self._target, self._headers).forward()
        return found


class _EndpointChoice:
    """Forwards a request to one endpoint. When this endpoint cannot be reached, tries the next endpoints."""

    __slots__ = ("_at", "_headers", "_resolved", "_target")

    def __init__(self, resolved: ResolvedBackend, at: int, target: bytes, headers: Headers) -> None:
        self._resolved = resolved
        self._at = at
        self._target = target
        self._headers = headers

    def forward(self) -> Forward:
        upstream = self._resolved.upstreams[self._at]
        return Forward(upstream, self._target, self._headers, self._error_response, next_upstream=self._next_upstream)

    def _next_upstream(self, failures: int) -> Forward | None:
        count = len(self._resolved.upstreams)
        if failures >= min(count, _TRIES):
            return None
        return _EndpointChoice(self._resolved, (self._at + 1) % count, self._target, self._headers).forward()

    def _error_response(self, error: ProxyError) -> Respond:
        if error.stage == "dial":
            return page(self._headers, 503, "No endpoint of the Service accepts connections.")
        if error.stage == "upgrade":
            return page(self._headers, 502, "The application has refused to upgrade the connection.")
        return page(self._headers, 502, "The application has ended the connection without a whole answer.")


def _split_host(value: bytes) -> tuple[str, bytes]:
    """Split the value of a `Host` field: return (the host name in lower case, the port or b"")."""
    text = value.decode("latin-1").strip().lower()
    name, colon, port = text.rpartition(":")
    if not colon or len(port) > 5 or not port.isascii() or not port.isdigit():
        name, port = text, ""
    return name.removesuffix("."), port.encode()


def _headers(head: RequestHead, port: bytes) -> Headers:
    scheme = head.peer.scheme
    client = head.peer.address[0].encode() if head.peer.address is not None else b""
    kept = [field for field in head.headers if not _is_claim(field[0])]
    added: Headers = [
        (b"X-Forwarded-Port", port or _DEFAULT_PORTS[scheme]),
        (b"X-Forwarded-Proto", scheme.encode()),
        (b"CDN-Loop", _NAME),
    ]
    if (host := head.header(b"host")) is not None:
        added.append((b"X-Forwarded-Host", host))
    else:
        added.append((b"Host", b""))  # RFC 9112 section 3.2: HTTP/1.1, which the backend gets, requires Host
    if client:
        added += [(b"X-Forwarded-For", client), (b"X-Real-IP", client)]
    return kept + added


def _is_claim(name: bytes) -> bool:
    """Return True for a field by which a client could pretend to be a proxy.

    CGI and WSGI do not distinguish `X_Real_IP` from `X-Real-IP`, so the result is True for both.
    """
    if name[:1] not in b"xXfF":
        return False
    plain = name.lower().replace(b"_", b"-")
    return plain.startswith(b"x-forwarded-") or plain in (b"forwarded", b"x-real-ip", b"x-original-forwarded-for")
