"""Rewrites `Location`: puts a backend's URLs under the path prefix.

The rule is that of apimachinery `pkg/util/proxy/transport.go` (`rewriteURL`), which uses it for `Location` and for
attributes of HTML. `rewrite_location` differs where Kubernetes breaks URLs: only the path's beginning is changed
(escapes are not decoded and encoded again), `..` does not leave the prefix that is added, and URLs of other schemes
(`mailto:`, `javascript:`) stay as they are. `rewrite_as_go` writes URLs as Go does.
"""

from __future__ import annotations

import re

from hatchway.rewrite import gourl

# RFC 3986 appendix B. A scheme begins with a letter and has no slash, so neither `::bad` nor `a/b:c` has a scheme.
_URL = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_NEEDS_COLLAPSE = re.compile(rb"//|/\.|/%2[eE]")
_WEB_SCHEMES = frozenset((b"http", b"https", b"ws", b"wss"))
_DOTS = {b".": b".", b"..": b"..", b"%2e": b".", b".%2e": b"..", b"%2e.": b"..", b"%2e%2e": b".."}


def collapse_path(path: bytes) -> bytes:
    """Return the path without dot segments (`%2e` counts as a dot) and without empty segments.

    `..` at the beginning is removed. A slash at the end stays, as with Go's path.Join in the API server, but none is
    added: `/a/..` becomes `/`, `/a/.` becomes `/a`. All other bytes are kept. "" becomes "/".
    """
    if path[:1] == b"/" and not _NEEDS_COLLAPSE.search(path):
        return path
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        dots = _DOTS.get(segment.lower())
        if dots == b"..":
            del kept[-1:]
        elif segment and dots is None:
            kept.append(segment)
    collapsed = b"/" + b"/".join(kept)
    return collapsed + b"/" if kept and path.endswith(b"/") else collapsed


def rewrite_location(value: bytes, *, prefix: bytes, request_host: bytes, endpoint_host: bytes) -> bytes:
    """Return the URL under the prefix; unchanged when it is relative, foreign or not a URL.

    prefix: the path under which the backend is served, without a slash at its end.
    request_host: the `Host` of the client's request; a URL of this host stays absolute.
    endpoint_host: the backend's own address as `host:port`; a URL with this address becomes path-absolute.
    """
    match = _URL.match(value)
    if match is None or _CONTROL.search(value):
        return value
    scheme, host, path = match.groups()
    if path[:1] != b"/":
        return value
    if scheme is not None and (host is None or scheme.lower() not in _WEB_SCHEMES):
        return value
    origin = b""
    if host:
        if host.lower() == request_host.lower():
            origin = value[: match.start(3)]
        elif host.lower() != endpoint_host.lower():
            return value
    rest = value[match.end(3) :]
    if path.startswith(prefix):
        return origin + path + rest
    return origin + prefix + collapse_path(path) + rest


def rewrite_as_go(value: bytes, *, prefix: bytes, request_host: bytes, endpoint_host: bytes) -> bytes:
    """Return the URL as `rewrite_location` does, but parsed and formatted as by Go.

    Clients of a kube-apiserver get such URLs: escapes are decoded and encoded again, schemes are in lower case. But
    `..` does not leave the prefix that is added.

    Raises GoURLError for a text that Go cannot parse.
    """
    url = gourl.parse(value)
    if url.scheme not in _WEB_SCHEMES | {b""}:
        return bytes(url)
    if (url.host and url.host not in (request_host, endpoint_host)) or not url.path.startswith(b"/"):
        return bytes(url)
    if url.host != request_host:
        url.scheme = url.host = b""
    if not url.path.startswith(prefix):
        # The path is cleaned before it is joined, so that its dot segments cannot leave the prefix.
        url.path = gourl.join(prefix, gourl.clean(url.path)) + (b"/" if url.path.endswith(b"/") else b"")
    return bytes(url)
