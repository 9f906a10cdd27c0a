"""Paths as Go's http.ServeMux wants them; `kubectl proxy` redirects what is not so (net/http `cleanPath`)."""

from __future__ import annotations

import html


def cleaned(path: bytes) -> bytes:
    """The path without empty and dot segments, a slash at its end kept. Escapes are left alone."""
    if b"//" not in path and b"/." not in path:
        return path
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    found = b"/" + b"/".join(kept)
    if kept and path.endswith(b"/"):
        found += b"/"
    return found


def redirect_body(status_text: str, location: bytes) -> bytes:
    """As net/http's `Redirect` words it."""
    shown = html.escape(location.decode("latin-1"), quote=True).replace("&#x27;", "&#39;")
    return f'<a href="{shown}">{status_text}</a>.\n\n'.encode("latin-1")
