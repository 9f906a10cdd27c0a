"""Serves the files of an add-on's page, with a Content-Security-Policy that allows only this page's own files.

All URLs in such a page are relative, so it works below any path. Scripts and styles that several pages use are in
`shared/`, and are served beside each page's own files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchway.proxy.routing import ASGIApp, Headers, RequestHead, Respond, Scope

_SHARED = Path(__file__).parent / "shared"
_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE: Headers = [
    (b"Content-Security-Policy", _POLICY),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
]


@dataclass(frozen=True, slots=True)
class _PageFile:
    type: bytes
    tag: bytes
    body: bytes


class PageFiles:
    """The files of a page. They are read once.

    Args:
        folders: the page's own folders, in addition to the shared one. `index.html` is served at `/`.
        name: the page's name for its errors, such as "log explorer".
    """

    def __init__(self, *folders: Path, name: str) -> None:
        self._name = name
        self._files: dict[str, _PageFile] = {}
        for folder in (_SHARED, *folders):
            for path in sorted(folder.iterdir()):
                if path.suffix in _TYPES:
                    body = path.read_bytes()
                    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
                    self._files[path.name] = _PageFile(_TYPES[path.suffix], tag.encode(), body)

    def respond(self, head: RequestHead) -> Respond:
        """Return the answer to a request for a file."""
        file = self._files.get(head.path[1:].decode("ascii", "replace") or "index.html")
        if file is None:
            return self.refuse(404, f"The {self._name} has no such page.")
        if head.method not in ("GET", "HEAD"):
            return self.refuse(405, "Only GET and HEAD are allowed here.", [(b"Allow", b"GET, HEAD")])
        headers = [(b"Content-Type", file.type), (b"ETag", file.tag), (b"Cache-Control", b"no-cache"), *_SAFE]
        if head.header(b"if-none-match") == file.tag:
            return Respond(304, headers)
        return Respond(200, headers, file.body)

    def refuse(self, status: int, text: str, headers: Headers | None = None) -> Respond:
        """Return an error as plain text. headers: more header fields."""
        plain = [(b"Content-Type", b"text/plain; charset=utf-8"), *_SAFE, *(headers or [])]
        return Respond(status, plain, f"{text}\n".encode())

    def refuse_foreign(self, head: RequestHead) -> Respond | None:
        """Return an error for a request that a page of another origin sends; None for other requests."""
        if head.header(b"sec-fetch-site") in (None, b"same-origin", b"none"):
            return None
        return self.refuse(403, f"The {self._name}'s API answers only its own page.")


def below(app: ASGIApp, prefix: str) -> ASGIApp:
    """Return an application that removes `prefix` from the paths of requests, and calls `app`."""

    async def shortened(
        scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        path = scope["path"].removeprefix(prefix)
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return shortened
