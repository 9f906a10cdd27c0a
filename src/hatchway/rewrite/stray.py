"""Requests that lost their prefix: a page under `/api/v1/.../proxy/` asks for `/logo.png`.

What neither the rewriters nor `prefix.js` could see (a style that a script composed, a WebAssembly module's own loader)
still says in its `Referer` to which application it belongs. A redirect (307: the method and the body stay) brings it
there. Nobody but a page under a prefix sends such a Referer.
"""

from __future__ import annotations

import re

_PROXY = re.compile(
    rb"(/api/v1/(?:namespaces/[A-Za-z0-9.%:_~-]+/(?:services|pods)|nodes)/[A-Za-z0-9.%:_~-]+/proxy)(?:/|[?#]|\Z)"
)
_REFERER = re.compile(rb"https?://([^/?#]+)(/[^?#]*)", re.IGNORECASE)


def proxy_prefix(path: bytes) -> bytes | None:
    """The beginning of a proxy path, up to and with `/proxy`; None when it is another path."""
    match = _PROXY.match(path)
    return match[1] if match else None


def stray_target(target: bytes, headers: list[tuple[bytes, bytes]], host: bytes | None = None) -> bytes | None:
    """Where a request with this request-target belongs: the same under the prefix of the page that sent it.

    host: the server's own, by default the request's `Host`. None: it has a prefix already, or no page under a prefix
    sent it.
    """
    if target[:1] != b"/" or target[:2] == b"//" or proxy_prefix(target) is not None:
        return None
    referer = None
    for name, value in headers:
        lower = name.lower()
        if lower == b"referer":
            referer = _REFERER.match(value)
            if referer is None:
                return None
        elif lower == b"host" and host is None:
            host = value
    if referer is None or host is None or referer[1].lower() != host.lower():
        return None
    prefix = proxy_prefix(referer[2])
    return None if prefix is None else prefix + target
