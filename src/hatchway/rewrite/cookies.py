"""`Set-Cookie` under a path prefix.

The API server leaves cookies alone, so that a backend's `Path=/` covers every other service on the same host. Here
the path gets the prefix: two applications behind one API server do not see (or overwrite) each other's cookies.
"""

from __future__ import annotations

import re

_PATH = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)(/[^;]*)", re.IGNORECASE)


def rewrite_set_cookie(value: bytes, *, prefix: bytes) -> bytes:
    """One `Set-Cookie` field's value with its `Path` attribute under `prefix` (no slash at its end).

    Unchanged: a path that has the prefix, a cookie without a path (its default lies under the prefix by itself,
    RFC 6265 section 5.1.4), and `__Host-` cookies, which a browser takes with `Path=/` only.
    """
    if value.lstrip(b" \t")[:7].lower() == b"__host-":
        return value

    def under(match: re.Match[bytes]) -> bytes:
        name, path = match.groups()
        return match.group() if (path.rstrip(b" \t") + b"/").startswith(prefix + b"/") else name + prefix + path

    return _PATH.sub(under, value)
