"""Rewrites `Set-Cookie` and `Cookie` under a path prefix.

The API server does not change cookies, so a backend's cookie with `Path=/` is sent to all services on the same host.
This module puts the prefix before the path, so that two applications behind one API server neither see nor overwrite
each other's cookies.

Browsers accept `__Host-` cookies only with `Path=/`, so all applications would share these cookies. Therefore such a
cookie is renamed in the browser (`__Hatchway-Host-...`) and can have a path. It gets its original name back before the
application sees it; `prefix.js` does the same for scripts. The guarantees of a `__Host-` name (a secure origin, no
Domain) still hold: `Secure` stays, and `Domain` is dropped from all cookies.
"""

from __future__ import annotations

import re

_PATH = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)(/[^;]*)", re.IGNORECASE)
_DOMAIN = re.compile(rb";[ \t]*domain[ \t]*=[^;]*", re.IGNORECASE)
_HOST = re.compile(rb"[ \t]*__host-", re.IGNORECASE)
_RENAMED = re.compile(rb"(?:(?<=^)|(?<=; )|(?<=;))__Hatchway-Host-")
RENAMED = b"__Hatchway-Host-"


def rewrite_set_cookie(value: bytes, *, prefix: bytes) -> bytes:
    """Return one `Set-Cookie` field's value with its `Path` attribute under `prefix` (no slash at its end).

    `Path=/` becomes the prefix itself, so that the cookie is also sent to the address without a slash. A path that
    already has the prefix is unchanged. A cookie without a path is unchanged, too: its default path is under the prefix
    anyway (RFC 6265 section 5.1.4).
    """
    host = _HOST.match(value)
    if host is not None:
        value = RENAMED + value[host.end() :]

    def under(match: re.Match[bytes]) -> bytes:
        name, path = match.groups()
        if (path.rstrip(b" \t") + b"/").startswith(prefix + b"/"):
            return match.group()
        return name + prefix + (b"" if path.rstrip(b" \t") == b"/" else path)

    return _PATH.sub(under, _DOMAIN.sub(b"", value))


def restore_cookies(value: bytes) -> bytes:
    """Return a `Cookie` field's value in which the cookies have the application's names again."""
    return _RENAMED.sub(b"__Host-", value) if RENAMED in value else value
