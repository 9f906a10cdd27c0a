"""The proxy verb: `/api/v1/.../{services,pods,nodes}/NAME/proxy/...`, forwarded to what the name stands for.

The behaviour is that of `ConnectResource` (apiserver `pkg/endpoints/handlers/rest.go`) with `UpgradeAwareHandler`
(apimachinery `pkg/util/proxy/upgradeaware.go`, `transport.go`). Authorization is done before this file is asked.

Deliberately different from the original:

- the path keeps its bytes (`%2F` stays `%2F`, `!` stays `!`) unless answers are rewritten as Kubernetes does it (`path_of`
  has the whole rule); dot segments cannot leave the prefix, `%00` is a 400;
- the query of an upgrade is forwarded;
- answers are rewritten so that applications work whose scripts build their own addresses (`rewrite/prefix.py`);
  `X-Hatchway-Rewrite: kubernetes`, or the cluster's own setting, gives what the original does, `off` nothing at all;
- HTML is rewritten while it streams and keeps every byte that is not a URL; codings other than gzip and deflate pass
  unchanged;
- URLs of foreign schemes (`javascript:/x`) are left alone;
- methods beyond the seven (WebDAV) are forwarded, unless answers are rewritten as Kubernetes does it; `requestinfo.py`
  says which right they need;
- `X-Hatchway-Authorization: VALUE` reaches the backend as `Authorization: VALUE`; `X-Hatchway-Path: exact` keeps the
  bytes of every path.

What a backend sees: the client's own `Host`; `X-Forwarded-For` with the client's address appended; `X-Forwarded-Uri`,
the path of the request under the API server, percent-encoded as it is sent (not on upgrades). As with the original,
`X-Forwarded-Host` and `X-Forwarded-Proto` are not set, and pass when a client sets them.
"""

from __future__ import annotations

import json
import os
import random
import re
import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote_from_bytes, unquote_to_bytes

from hatchway.cluster.api.resourcelocation import Dial, Endpoint, Locator, Lookup, Unreachable
from hatchway.errors import ApiError, bad_request, internal, service_unavailable
from hatchway.proxy.routing import (
    Decision,
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
# They concern a connection and not a resource.
_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))

_CACHE_CONTROL = (b"Cache-Control", b"no-cache, private")
# The cluster's credentials: what filters.py has read is none of a backend's business.
_CREDENTIALS = frozenset((b"authorization", b"proxy-authorization", b"x-forwarded-uri"))
_CREDENTIAL_PREFIXES = (b"x-remote-", b"impersonate-")
_BEARER_PROTOCOL = b"base64url.bearer.authorization.k8s.io."
# A backend must not open the API server's origin to other sites (`removeCORSHeaders`).
_CORS = frozenset(
    (
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
    )
)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00|\x00")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """What the request-target says.

    resource: services, pods or nodes (namespace ""). name: the name segment, percent-decoded, as it was spelled.
    prefix: the path up to and including `/proxy`, and path: what follows it (b"" when nothing does), byte for byte.
    query: without "?", None when there is none.
    """

    resource: str
    namespace: str
    name: str
    prefix: bytes
    path: bytes
    method: str
    query: bytes | None


class ProxyVerb:
    """Routes authorized requests of the proxy verb.

    lookup: the API server's objects. dial: connects to an address and a port of the cluster's network, or raises
    OSError. kubelet_tls: the client side of connections to kubelets. allow_loopback_pods: the cluster has no private
    network, its nodes and pods live on 127.0.0.0/8. rewriting: of answers, where a request does not say it.
    """

    def __init__(
        self,
        *,
        lookup: Lookup,
        dial: Dial,
        kubelet_tls: ssl.SSLContext,
        allow_loopback_pods: bool = False,
        rewriting: Rewriting = "full",
    ) -> None:
        self._rewriting = rewriting
        self.locator = Locator(
            lookup=lookup, dial=dial, kubelet_tls=kubelet_tls, allow_loopback_pods=allow_loopback_pods
        )

    def route(self, head: RequestHead, info: ProxyRequest) -> Decision:
        """A Forward to an endpoint, a redirect to the path with its slash, or a `Status`. Raises nothing."""
        found = self.prepare(head, info)
        return found if isinstance(found, Respond) else found.forward()

    def prepare(self, head: RequestHead, info: ProxyRequest) -> Prepared | Respond:
        """As `route`, but what can be forwarded can be so again, as long as no object of the cluster changes and a
        request's head is the same. Raises nothing."""
        try:
            return self._prepare(head, info)
        except ApiError as error:
            return status_response(error)

    def _prepare(self, head: RequestHead, info: ProxyRequest) -> Prepared | Respond:
        wanted = head.header(b"x-hatchway-rewrite")
        rewriting = self._rewriting if wanted is None else _MODES.get(wanted.strip().lower())
        if rewriting is None:
            raise bad_request("X-Hatchway-Rewrite is full, kubernetes or off")
        if info.method not in METHODS and (rewriting == "kubernetes" or info.method in _REFUSED_METHODS):
            raise ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {}
            )
        if _BAD_ESCAPE.search(info.path):
            raise bad_request(f"the path {info.path.decode('latin-1')!r} has an invalid percent-encoding")
        query = info.query
        if query and b"dryRun" in query and b"dryRun" in parse_qs(query, keep_blank_values=True):
            raise bad_request("dryRun is not supported")
        prefix = _canonical(info.prefix)
        endpoints: list[Endpoint] = []
        broken = ""
        try:
            endpoints = self.locator.locate(info.resource, info.namespace, info.name)
        except Unreachable as error:
            broken = str(error)
        asked = b"?" + query if query else b""
        if not info.path and not head.upgrade and info.method in ("GET", "HEAD"):
            return Respond(301, [_CACHE_CONTROL, (b"Location", prefix + b"/" + asked)])
        if not endpoints:
            raise _dial_error(broken, head.upgrade is not None)
        exact = b"%" in info.path and head.header(b"x-hatchway-path") == b"exact"
        path = path_of(info.path, rewriting, exact=exact)
        uri = _kubernetes_uri(info, path) if rewriting == "kubernetes" else prefix + path
        return Prepared(head, prefix, path, uri, asked, endpoints, rewriting)


class Prepared:
    """A request that can be forwarded, as often as it comes: all that its head and the cluster's objects say of it."""

    __slots__ = ("_ways", "coded", "endpoints", "headers", "host", "method", "rewriters", "target", "upgrade")

    def __init__(
        self,
        head: RequestHead,
        prefix: bytes,
        path: bytes,
        uri: bytes,
        asked: bytes,
        endpoints: list[Endpoint],
        rewriting: Rewriting,
    ) -> None:
        self.endpoints = endpoints
        self.target = path + asked
        self.headers = _request_headers(head, uri)
        self.host = head.header(b"host")
        # One for each endpoint's own address; none: nothing is rewritten.
        self.rewriters: dict[bytes, PrefixRewriter] = {}
        if rewriting != "off":
            for one in endpoints:
                rewriter = PrefixRewriter(prefix, self.host or b"", one.host, rewriting)
                rewriter.see_request(head.headers)
                self.rewriters[one.host] = rewriter
            self.headers = rewriter.edit_request(self.headers)
        self.coded = head.header(b"accept-encoding") is not None or head.header(b"range") is not None
        self.method = head.method
        self.upgrade = head.upgrade is not None
        self._ways: dict[int, _Way] = {}

    def forward(self) -> Forward:
        """The way to an endpoint that is chosen at random."""
        count = len(self.endpoints)
        return self._way(random.randrange(count) if count > 1 else 0).forward

    def _way(self, at: int) -> _Way:
        way = self._ways.get(at)
        if way is None:
            way = self._ways[at] = _Way(self, at)
        return way

    def following(self, at: int) -> Forward | None:
        """The way to the endpoint at a place, the first being behind the last."""
        return self._way(at % len(self.endpoints)).forward


class _Way:
    """What is asked of one endpoint. When it cannot be reached those behind it are, around to the first."""

    __slots__ = ("_at", "_request", "endpoint", "forward")

    def __init__(self, request: Prepared, at: int) -> None:
        self._request = request
        self._at = at
        self.endpoint = endpoint = request.endpoints[at]
        self.forward = Forward(
            endpoint.upstream,
            request.target,
            request.headers if request.host is not None else [(b"Host", endpoint.host), *request.headers],
            self.error_response,
            self.edit_response,
            self.following,
        )

    def following(self, failures: int) -> Forward | None:
        return self._request.following(self._at + 1) if failures < len(self._request.endpoints) else None

    def error_response(self, error: ProxyError) -> Respond:
        if error.stage == "upgrade":
            return status_response(ApiError(500, "", f"invalid upgrade response: status code {error.status}"))
        return status_response(_dial_error(dial_message(error, self.endpoint), self._request.upgrade))

    def edit_response(self, head: ResponseHead) -> Transform | None:
        """As `transport.go` does it: CORS, then what the rewriter does."""
        request = self._request
        if request.upgrade:
            return None  # a refused upgrade is relayed as it is
        headers: Headers = [_CACHE_CONTROL]
        for name, value in head.headers:
            lower = name.lower()
            # The type of a 304: RFC 9110 section 15.4.5; Go's server drops it, too.
            if lower in _CORS or (lower == b"content-type" and head.status == 304):
                continue
            headers.append((name, value))
        head.headers = headers
        rewriter = request.rewriters.get(self.endpoint.host)
        transform: Transform | None = None
        if rewriter is None:
            headers.append((b"X-Hatchway-Rewrite", b"off"))
        else:
            # Go's client decodes gzip for a client that did not say what it accepts; such clients rely on plain bodies.
            try:
                transform = rewriter.edit(head.status, headers, method=request.method, decode=not request.coded)
            except GoURLError as error:
                return _replaced(head, internal(f"error trying to parse Location header: {error}"))
        return transform


def path_of(rest: bytes, rewriting: Rewriting, *, exact: bool = False) -> bytes:
    """The path that a backend is asked for, from what follows `/proxy` in the request's.

    As a kube-apiserver has it, the path is decoded, cleaned and encoded again: `%2F` becomes a slash, `!` becomes `%21`.
    Otherwise its bytes stay, but for one kind of path. Generated clients (`connect_get_namespaced_service_proxy_with_
    path`) send a whole path as a single segment, `api%2Fhealth`, and rely on that decoding: a path whose only slashes are
    escaped ones is treated so here, too. exact: not even that one, for a client that means what it writes.
    """
    if rewriting == "kubernetes" or (not exact and b"/" not in rest[1:] and b"%2f" in rest.lower()):
        return escape_path(join_location(b"", unescape(rest)))
    return collapse_path(rest).replace(b"#", b"%23")


def _kubernetes_uri(info: ProxyRequest, path: bytes) -> bytes:
    """`X-Forwarded-Uri` as a kube-apiserver words it (`defaultProxyTransport`, `Transport.RoundTrip`): the path is taken
    from the request's decoded path, and put behind what is left of that."""
    asked, location = unescape(info.prefix + info.path), unescape(path)
    found = join(asked.removesuffix(location), path) + (b"/" if location.endswith(b"/") else b"")
    # An escaped line break before a dot segment would come to stand in the field.
    return collapse_path(info.prefix) + path if _CONTROL.search(found) else found


def rewriting_of(name: str) -> Rewriting:
    """The setting of this name; `full` when there is none."""
    return _MODES.get(name.encode(), "full")


class _Instead:
    """A body in place of the backend's, whatever comes of that one."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def feed(self, data: bytes) -> bytes:
        return b""

    def finish(self) -> bytes:
        return self._body


def _replaced(head: ResponseHead, error: ApiError) -> Transform:
    """Make a backend's answer the API server's own."""
    answer = status_response(error)
    head.status, head.reason, head.headers = answer.status, b"", answer.headers
    return _Instead(answer.body)


def status_response(error: ApiError) -> Respond:
    """The error as the API server answers it."""
    body = json.dumps(error.status(), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    headers = [_CACHE_CONTROL, (b"Content-Type", b"application/json"), *error.headers()]
    return Respond(error.code, headers, body)


def _dial_error(message: str, upgrade: bool) -> ApiError:
    if upgrade:
        return ApiError(500, "", f"error dialing backend: {message}")
    return service_unavailable(f"error trying to reach service: {message}")


# What OpenSSL calls the reasons for which handshakes fail, and how Go's `crypto/tls` words them (`common.go`, `alert.go`).
_TLS_WORDS = {
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "RECORD_LAYER_FAILURE": "tls: first record does not look like a TLS handshake",
    "HTTP_REQUEST": "tls: first record does not look like a TLS handshake",
    "UNSUPPORTED_PROTOCOL": "tls: no supported versions satisfy MinVersion and MaxVersion",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "remote error: tls: handshake failure",
    "SSLV3_ALERT_BAD_CERTIFICATE": "remote error: tls: bad certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "remote error: tls: unknown certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
    "TLSV1_ALERT_INTERNAL_ERROR": "remote error: tls: internal error",
    "TLSV1_ALERT_ACCESS_DENIED": "remote error: tls: access denied",
    "TLSV1_ALERT_UNKNOWN_CA": "remote error: tls: unknown certificate authority",
    "TLSV1_UNRECOGNIZED_NAME": "remote error: tls: unrecognized name",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "remote error: tls: no application protocol",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "remote error: tls: certificate required",
    "UNEXPECTED_EOF_WHILE_READING": "EOF",
}


def dial_message(error: ProxyError, endpoint: Endpoint) -> str:
    """As Go's net package words it; clients are known to look for "connection refused"."""
    cause = error.__cause__
    if error.stage == "tls":
        if isinstance(cause, ssl.SSLEOFError):
            return "EOF"
        if isinstance(cause, ssl.SSLError):
            return _TLS_WORDS.get(cause.reason or "", error.message)
        if isinstance(cause, ConnectionResetError):
            return f"read tcp {endpoint.dialed}: read: {error.message}"
        return error.message
    if error.stage != "dial":
        return error.message
    if isinstance(cause, TimeoutError):
        why = "i/o timeout"
    elif isinstance(cause, OSError) and cause.errno:
        why = f"connect: {os.strerror(cause.errno).lower()}"  # asyncio words strerror its own way
    else:
        why = error.message
    return f"dial tcp {endpoint.dialed}: {why}"


def _canonical(prefix: bytes) -> bytes:
    """The prefix in one spelling, and with no character that could end a header field or an attribute's value; a
    doubled slash at its beginning would make it another host's URL."""
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
            value = _without_bearer(value)
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


def _without_bearer(protocols: bytes) -> bytes:
    """The offered sub-protocols without the one that carries a token (`request/websocket/protocol.go`)."""
    if _BEARER_PROTOCOL not in protocols:
        return protocols
    offered = [protocol.strip() for protocol in protocols.split(b",")]
    return b", ".join(protocol for protocol in offered if not protocol.startswith(_BEARER_PROTOCOL))
