"""The proxy verb: forwards `/api/v1/.../{services,pods,nodes}/NAME/proxy/...` to the service, pod or node.

The behaviour is that of `ConnectResource` (apiserver `pkg/endpoints/handlers/rest.go`) with `UpgradeAwareHandler`
(apimachinery `pkg/util/proxy/upgradeaware.go`, `transport.go`). Requests were authorized before.

These deviations from Kubernetes are deliberate:

- the bytes of the path are not changed (`%2F` stays `%2F`, `!` stays `!`) unless answers are rewritten as in Kubernetes
  (`path_of` has the complete rule); dot segments cannot leave the prefix, and `%00` is a 400;
- the query of an upgrade is forwarded;
- answers are rewritten so that applications whose scripts build URLs work, too (`rewrite/prefix.py`).
  `X-Hatchway-Rewrite: kubernetes` selects Kubernetes' way of rewriting, and `off` none; a setting of the cluster has
  the same values;
- HTML is rewritten while it streams, and only URLs in it are changed; content codings other than gzip and deflate are
  passed on unchanged;
- URLs of other schemes (`javascript:/x`) are not changed;
- methods other than Kubernetes' seven (WebDAV) are forwarded, unless answers are rewritten as in Kubernetes;
  `requestinfo.py` determines the right that they need;
- `X-Hatchway-Authorization: VALUE` is sent to the backend as `Authorization: VALUE`; with `X-Hatchway-Path: exact` the
  bytes of every path are kept.

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
# Methods that are about a connection, not about a resource.
_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))

# Fields with credentials for the cluster, which backends must not get, and a field that Hatchway sets itself.
_CREDENTIALS = frozenset((b"authorization", b"proxy-authorization", b"x-forwarded-uri"))
_CREDENTIAL_PREFIXES = (b"x-remote-", b"impersonate-")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00|\x00")
# The query parameter `dryRun`, with any percent-escapes. The pattern avoids parsing a long query.
_DRY_RUN = re.compile(rb"(?:\A|&)(?:d|%64)(?:r|%72)(?:y|%79)(?:R|%52)(?:u|%75)(?:n|%6[Ee])(?:[=&]|\Z)")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class ProxyVerb:
    """Routes authorized requests of the proxy verb (`ConnectHandler`).

    locator: finds the endpoints of targets.
    rewriting: the mode in which answers are rewritten, unless the request chooses another mode.
    """

    def __init__(self, locator: Locator, rewriting: Rewriting = "full") -> None:
        self._locator = locator
        self._rewriting = rewriting

    def prepare(self, head: RequestHead, request: ConnectRequest) -> Prepared | Respond:
        """Return a Prepared, a redirect that adds a final slash to the path, or a `Status`. It never raises."""
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
    """The parts of a forwarded request that are computed once, from its head and the cluster's objects."""

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
        # The rewriter of each endpoint, by the endpoint's host; empty when answers are not rewritten.
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
    """A request that can be forwarded repeatedly. For the same endpoint it always returns the same Forward object."""

    # A Forward's callbacks refer to the request, not to this object. That avoids a reference cycle, which only the
    # garbage collector could free.
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
    """Forwards a request to one endpoint or, when connecting fails, to the next endpoints in turn."""

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
            # Go reads the answer to an upgrade by `http.ReadResponse`, which reports every EOF as unexpected.
            message = "unexpected EOF" if error.message == "EOF" else error.message
            return status_response(ApiError(500, "", message))
        return status_response(dial_error(dial_message(error, self.endpoint), self._request.upgrade))

    def edit_response(self, head: ResponseHead) -> Transform | None:
        """Edit a response like `transport.go`: remove CORS fields, then rewrite."""
        request = self._request
        if request.upgrade:
            return None  # the answer to a refused upgrade is relayed unchanged
        headers: Headers = [NO_CACHE]
        for name, value in head.headers:
            lower = name.lower()
            # A 304 should have no Content-Type (RFC 9110 section 15.4.5). Go's server drops it, too.
            if lower in CORS_FIELDS or (lower == b"content-type" and head.status == 304):
                continue
            headers.append((name, value))
        head.headers = headers
        rewriter = request.rewriters.get(self.endpoint.host)
        transform: Transform | None = None
        if rewriter is None:
            headers.append((b"X-Hatchway-Rewrite", b"off"))
        else:
            # If the request has no Accept-Encoding, Go's client in a kube-apiserver decodes gzip. So clients that do
            # not send the field expect bodies without gzip.
            try:
                transform = rewriter.edit_response(head.status, headers, decode=not request.coded)
            except GoURLError as error:
                return replace_response(head, internal(f"error trying to parse Location header: {error}"))
        return transform


def path_of(rest: bytes, rewriting: Rewriting, *, exact: bool = False) -> bytes:
    """Return the path for the backend.

    A kube-apiserver decodes the path, cleans it and encodes it again: `%2F` becomes a slash, `!` becomes `%21`. Here
    the bytes are kept, with one exception. Generated clients (`connect_get_namespaced_service_proxy_with_path`) send a
    whole path as one segment, `api%2Fhealth`, and rely on the decoding. So a path in which all slashes are escaped is
    decoded here, too.

    rest: the part of the request's path after `/proxy`.
    rewriting: the mode of rewriting.
    exact: True to keep the bytes in every case, because the client has requested this.
    """
    if rewriting == "kubernetes" or (not exact and b"/" not in rest[1:] and b"%2f" in rest.lower()):
        return escape_path(join_location(b"", unescape(rest)))
    return collapse_path(rest).replace(b"#", b"%23")


def _kubernetes_uri(request: ConnectRequest, path: bytes) -> bytes:
    """Return `X-Forwarded-Uri` as a kube-apiserver builds it (`defaultProxyTransport`, `Transport.RoundTrip`).

    The target's path is removed from the end of the request's decoded path, and then appended to the remainder.
    """
    asked, location = unescape(request.prefix + request.path), unescape(path)
    found = join(asked.removesuffix(location), path) + (b"/" if location.endswith(b"/") else b"")
    # An escaped line break before a dot segment must not get into the field.
    return collapse_path(request.prefix) + path if _CONTROL.search(found) else found


def rewriting_of(name: str) -> Rewriting:
    """Return the mode of rewriting with this name; `full` for an unknown name."""
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
