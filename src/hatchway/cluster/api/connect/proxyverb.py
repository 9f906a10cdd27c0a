"""The proxy verb: forwards `/api/v1/.../{services,pods,nodes}/NAME/proxy/...` to the service, pod or node.

The behaviour is that of `ConnectResource` (apiserver `pkg/endpoints/handlers/rest.go`) with `UpgradeAwareHandler`
(apimachinery `pkg/util/proxy/upgradeaware.go`, `transport.go`). Requests are authorized before they come here.

These things are different from Kubernetes, on purpose:

- the path keeps its bytes (`%2F` stays `%2F`, `!` stays `!`) unless answers are rewritten as Kubernetes does it
  (`path_of` has the whole rule); dot segments cannot leave the prefix, `%00` is a 400;
- the query of an upgrade is forwarded;
- answers are rewritten so that applications work whose scripts build their own addresses (`rewrite/prefix.py`);
  `X-Hatchway-Rewrite: kubernetes`, or the cluster's own setting, rewrites as Kubernetes does, `off` does not rewrite;
- HTML is rewritten while it streams and keeps every byte that is not a URL; codings other than gzip and deflate pass
  unchanged;
- URLs of foreign schemes (`javascript:/x`) are left alone;
- methods beyond the seven (WebDAV) are forwarded, unless answers are rewritten as Kubernetes does it; `requestinfo.py`
  says which right they need;
- `X-Hatchway-Authorization: VALUE` reaches the backend as `Authorization: VALUE`; `X-Hatchway-Path: exact` keeps the
  bytes of every path.

A backend gets the client's own `Host`, and `X-Forwarded-For` with the client's address appended. Except on upgrades, it
also gets `X-Forwarded-Uri`: the request's path at the API server, percent-encoded as it was sent. As in Kubernetes,
`X-Forwarded-Host` and `X-Forwarded-Proto` are not set; they are passed on when a client sets them.
"""

from __future__ import annotations

import random
import re
from typing import Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from hatchway.cluster.api.connect.answers import (
    CORS_FIELDS,
    NO_CACHE,
    dial_error,
    dial_message,
    replace_response,
    status_response,
)
from hatchway.cluster.api.connect.handler import ConnectRequest
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, Locator, UnreachableBackend
from hatchway.cluster.api.connect.websocketfields import without_bearer
from hatchway.errors import ApiError, bad_request, internal
from hatchway.proxy.routing import (
    Forward,
    Headers,
    ProxyError,
    RequestHead,
    Respond,
    ResponseHead,
    Transform,
)
from hatchway.rewrite.gourl import GoURLError, escape_path, join, join_location, unescape
from hatchway.rewrite.location import collapse_path
from hatchway.rewrite.prefix import PrefixRewriter

Rewriting = Literal["full", "kubernetes", "off"]

_MODES: dict[bytes, Rewriting] = {b"full": "full", b"kubernetes": "kubernetes", b"off": "off"}
METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
# Methods that concern a connection and not a resource.
_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))

# The cluster's credentials, which filters.py has used; backends do not get them.
_CREDENTIALS = frozenset((b"authorization", b"proxy-authorization", b"x-forwarded-uri"))
_CREDENTIAL_PREFIXES = (b"x-remote-", b"impersonate-")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00|\x00")
# The parameter `dryRun` in any spelling, found without parsing a long query.
_DRY_RUN = re.compile(rb"(?:\A|&)(?:d|%64)(?:r|%72)(?:y|%79)(?:R|%52)(?:u|%75)(?:n|%6[Ee])(?:[=&]|\Z)")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class ProxyVerb:
    """Routes authorized requests of the proxy verb (`ConnectHandler`).

    locator: finds the endpoints of targets. rewriting: how answers are rewritten when the request does not choose it.
    """

    def __init__(self, locator: Locator, rewriting: Rewriting = "full") -> None:
        self._locator = locator
        self._rewriting = rewriting

    def prepare(self, head: RequestHead, request: ConnectRequest) -> Prepared | Respond:
        """Return what to forward, a redirect to the path with its slash, or a `Status`. Raises nothing."""
        try:
            return self._prepare(head, request)
        except ApiError as error:
            return status_response(error)

    def _prepare(self, head: RequestHead, request: ConnectRequest) -> Prepared | Respond:
        wanted = head.header(b"x-hatchway-rewrite")
        rewriting = self._rewriting if wanted is None else _MODES.get(wanted.strip().lower())
        if rewriting is None:
            raise bad_request("X-Hatchway-Rewrite is full, kubernetes or off")
        if request.method not in METHODS and (rewriting == "kubernetes" or request.method in _REFUSED_METHODS):
            raise ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {}
            )
        if _BAD_ESCAPE.search(request.path):
            raise bad_request(f"the path {request.path.decode('latin-1')!r} has an invalid percent-encoding")
        query = request.query
        if query and _DRY_RUN.search(query):
            raise bad_request("dryRun is not supported")
        prefix = _respell(request.prefix)
        endpoints: list[BackendEndpoint] = []
        broken = ""
        try:
            endpoints = self._locator.locate(request.resource, request.namespace, request.name)
        except UnreachableBackend as error:
            broken = str(error)
        asked = b"?" + query if query else b""
        if not request.path and not head.upgrade and request.method in ("GET", "HEAD"):
            return Respond(301, [NO_CACHE, (b"Location", prefix + b"/" + asked)])
        if not endpoints:
            raise dial_error(broken, head.upgrade is not None)
        exact = b"%" in request.path and head.header(b"x-hatchway-path") == b"exact"
        path = path_of(request.path, rewriting, exact=exact)
        uri = _kubernetes_uri(request, path) if rewriting == "kubernetes" else prefix + path
        return Prepared(_Described(head, prefix, path, uri, asked, endpoints, rewriting))


class _Described:
    """A request to be forwarded: what follows from its head and the cluster's objects."""

    __slots__ = ("coded", "endpoints", "headers", "host", "rewriters", "target", "upgrade")

    def __init__(
        self,
        head: RequestHead,
        prefix: bytes,
        path: bytes,
        uri: bytes,
        asked: bytes,
        endpoints: list[BackendEndpoint],
        rewriting: Rewriting,
    ) -> None:
        self.endpoints = endpoints
        # Go sends an empty path as a slash.
        self.target = (path or b"/") + asked
        self.headers = _request_headers(head, uri)
        self.host = head.header(b"host")
        # A rewriter for each endpoint's address; empty when nothing is rewritten.
        self.rewriters: dict[bytes, PrefixRewriter] = {}
        if rewriting != "off":
            for one in endpoints:
                rewriter = PrefixRewriter(prefix, self.host or b"", one.host, rewriting)
                rewriter.see_request(head.headers)
                self.rewriters[one.host] = rewriter
            self.headers = rewriter.edit_request(self.headers)
        self.coded = head.header(b"accept-encoding") is not None or head.header(b"range") is not None
        self.upgrade = head.upgrade is not None


class Prepared:
    """A request that can be forwarded again and again, with the same Forward for the same endpoint each time."""

    # A Forward's callbacks refer to the request, not to this object: a reference cycle would need the garbage
    # collector.
    __slots__ = ("_forwards", "_request")

    def __init__(self, request: _Described) -> None:
        self._request = request
        self._forwards: dict[int, Forward] = {}

    def forward(self) -> Forward:
        """Choose an endpoint at random, and return the Forward to it."""
        count = len(self._request.endpoints)
        at = random.randrange(count) if count > 1 else 0
        found = self._forwards.get(at)
        if found is None:
            found = self._forwards[at] = _EndpointForward(self._request, at).forward()
        return found


class _EndpointForward:
    """Forwards a request to one endpoint, and to the next ones in turn while connecting fails."""

    __slots__ = ("_at", "_request", "endpoint")

    def __init__(self, request: _Described, at: int) -> None:
        self._request = request
        self._at = at
        self.endpoint = request.endpoints[at]

    def forward(self) -> Forward:
        """Return the decision for the engine."""
        request, endpoint = self._request, self.endpoint
        return Forward(
            endpoint.upstream,
            request.target,
            request.headers if request.host is not None else [(b"Host", endpoint.host), *request.headers],
            self.error_response,
            self.edit_response,
            self.next_upstream,
        )

    def next_upstream(self, failures: int) -> Forward | None:
        count = len(self._request.endpoints)
        return _EndpointForward(self._request, (self._at + 1) % count).forward() if failures < count else None

    def error_response(self, error: ProxyError) -> Respond:
        if error.stage == "upgrade":
            return status_response(ApiError(500, "", f"invalid upgrade response: status code {error.status}"))
        if self._request.upgrade and error.stage not in ("dial", "tls"):
            # On an existing connection `http.ReadResponse` fails, which calls every end unexpected.
            message = "unexpected EOF" if error.message == "EOF" else error.message
            return status_response(ApiError(500, "", message))
        return status_response(dial_error(dial_message(error, self.endpoint), self._request.upgrade))

    def edit_response(self, head: ResponseHead) -> Transform | None:
        """Edit a response as `transport.go` does: remove CORS fields, then rewrite."""
        request = self._request
        if request.upgrade:
            return None  # a refused upgrade is relayed as it is
        headers: Headers = [NO_CACHE]
        for name, value in head.headers:
            lower = name.lower()
            # A 304 has no Content-Type (RFC 9110 section 15.4.5); Go's server drops it, too.
            if lower in CORS_FIELDS or (lower == b"content-type" and head.status == 304):
                continue
            headers.append((name, value))
        head.headers = headers
        rewriter = request.rewriters.get(self.endpoint.host)
        transform: Transform | None = None
        if rewriter is None:
            headers.append((b"X-Hatchway-Rewrite", b"off"))
        else:
            # Go's client decodes gzip when the request has no Accept-Encoding, so clients without the field rely on
            # plain bodies.
            try:
                transform = rewriter.edit_response(head.status, headers, decode=not request.coded)
            except GoURLError as error:
                return replace_response(head, internal(f"error trying to parse Location header: {error}"))
        return transform


def path_of(rest: bytes, rewriting: Rewriting, *, exact: bool = False) -> bytes:
    """Return the path for the backend. It is made from what follows `/proxy` in the request's path.

    A kube-apiserver decodes the path, cleans it and encodes it again: `%2F` becomes a slash, `!` becomes `%21`. Here
    its bytes stay, with one exception. Generated clients (`connect_get_namespaced_service_proxy_with_path`) send a
    whole path as a single segment, `api%2Fhealth`, and rely on that decoding. So a path whose only slashes are escaped
    is decoded here, too.

    exact: whether such a path keeps its bytes, too, because the client asked for it.
    """
    if rewriting == "kubernetes" or (not exact and b"/" not in rest[1:] and b"%2f" in rest.lower()):
        return escape_path(join_location(b"", unescape(rest)))
    return collapse_path(rest).replace(b"#", b"%23")


def _kubernetes_uri(request: ConnectRequest, path: bytes) -> bytes:
    """Return `X-Forwarded-Uri` as a kube-apiserver builds it (`defaultProxyTransport`, `Transport.RoundTrip`).

    The target's path is cut off the request's decoded path, and then appended to the rest.
    """
    asked, location = unescape(request.prefix + request.path), unescape(path)
    found = join(asked.removesuffix(location), path) + (b"/" if location.endswith(b"/") else b"")
    # An escaped line break before a dot segment would get into the field.
    return collapse_path(request.prefix) + path if _CONTROL.search(found) else found


def rewriting_of(name: str) -> Rewriting:
    """Return the setting of this name; `full` when there is none."""
    return _MODES.get(name.encode(), "full")


def _respell(prefix: bytes) -> bytes:
    """Return the prefix in a spelling that is safe in answers.

    The result has no character that could end a header field or an attribute's value. It does not begin with two
    slashes, which would make it a URL of another host.
    """
    prefix = collapse_path(prefix)
    if b"%" not in prefix and prefix.isascii() and not _UNSAFE.search(prefix):
        return prefix
    return quote_from_bytes(unquote_to_bytes(prefix), safe="/:@").encode()


_UNSAFE = re.compile(rb"[^A-Za-z0-9/:@._~-]")


def _request_headers(head: RequestHead, uri: bytes) -> Headers:
    headers: Headers = []
    client: list[bytes] = []
    for name, value in head.headers:
        lower = name.lower()
        if lower in _CREDENTIALS or lower.startswith(_CREDENTIAL_PREFIXES):
            continue
        if lower.startswith(b"x-hatchway-"):
            if lower == b"x-hatchway-authorization":
                headers.append((b"Authorization", value))
            continue
        if lower == b"x-forwarded-for":
            client.append(value)
            continue
        if lower == b"sec-websocket-protocol":
            value = without_bearer(value)
            if not value:
                continue
        elif lower == b"user-agent" and not value:
            continue
        headers.append((name, value))
    if head.peer.address is not None:
        client.append(head.peer.address[0].encode())
    if client:
        headers.append((b"X-Forwarded-For", b", ".join(client)))
    if head.upgrade is None:
        headers.append((b"X-Forwarded-Uri", uri))
    return headers
