"""Finds the application for requests that lack the prefix, such as `/logo.png` from a page under `/api/v1/.../proxy/`.

The rewriters and `prefix.js` cannot change every address (for example in a style that a script has built, or in a
WebAssembly module's loader). But the `Referer` of such a request shows the application, because only a page under a
prefix sends a Referer with the prefix. The request is redirected to that application by a 307.
"""

from __future__ import annotations

import re

_PROXY = re.compile(
    rb"(/api/v1/(?:namespaces/[A-Za-z0-9.%:_~-]+/(?:services|pods)|nodes)/[A-Za-z0-9.%:_~-]+/proxy)(?:/|[?#]|\Z)"
)
_REFERER = re.compile(rb"https?://([^/?#]+)(/[^?#]*)", re.IGNORECASE)


def proxy_prefix(path: bytes) -> bytes | None:
    """Return the beginning of a proxy path, up to and including `/proxy`; None for another path."""
    match = _PROXY.match(path)
    return match[1] if match else None


def stray_target(target: bytes, headers: list[tuple[bytes, bytes]], host: bytes | None = None) -> bytes | None:
    """Return the request target with the prefix of the page that sent the request.

    host: the server's own host; None for the request's `Host`. Return None when the target has a prefix already, or
    when the request comes from no page under a prefix.
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
