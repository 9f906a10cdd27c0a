"""Cleans paths like Go's http.ServeMux does (net/http `cleanPath`); `kubectl proxy` redirects to clean paths."""

from __future__ import annotations

import html


def cleaned(path: bytes) -> bytes:
    """Return a path without empty and dot segments. A slash at its end and percent-escapes stay as they are."""
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
    """Return the body of a redirect as net/http's `Redirect` writes it."""
    shown = html.escape(location.decode("latin-1"), quote=True).replace("&#x27;", "&#39;")
    return f'<a href="{shown}">{status_text}</a>.\n\n'.encode("latin-1")
