"""Serves the files of a directory (`--www`) like Go's http.FileServer: with listings, index.html, redirects."""

from __future__ import annotations

import html
import mimetypes
import os
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

_NOSNIFF = {"x-content-type-options": "nosniff"}


class Directory:
    """An ASGI application that serves the files of a directory."""

    def __init__(self, directory: str, prefix: str) -> None:
        """Serve `directory` below the path `prefix`, which has a slash at its end."""
        self._prefix = prefix
        self._root = Path(directory)
        self._files = StaticFiles(directory=directory, check_dir=False, follow_symlink=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        # Every method gets the file, as with Go; only HEAD gets no body.
        scope = {**scope, "method": "HEAD" if scope["method"] == "HEAD" else "GET"}
        try:
            response = await self._answer(scope)
        except PermissionError:
            response = PlainTextResponse("Forbidden\n", 403)
        except (OSError, RuntimeError):
            # The name is too long, links form a cycle, or the file was just removed.
            response = _missing()
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        path: str = scope["path"].removeprefix(self._prefix)
        if "\0" in path:
            return PlainTextResponse("400 Bad Request: a path cannot hold a zero byte\n", 400, headers=_NOSNIFF)
        full, found = self._files.lookup_path(os.path.normpath(path))
        if found is None or b"%2e%2e" in scope["raw_path"].lower():
            return _missing()
        here = Path(full)
        if not self._contains(here):
            return _missing()
        if here.is_dir():
            if path and not path.endswith("/"):
                return _moved(quote(here.name) + "/", scope)
            if (here / "index.html").is_file() and self._contains(here / "index.html"):
                return await self._file(os.path.join(path, "index.html"), scope)
            return _listing(here)
        if path.endswith("/"):
            return _moved("../" + quote(here.name), scope)
        if here.name == "index.html":
            return _moved("./", scope)
        return await self._file(path, scope)

    def _contains(self, path: Path) -> bool:
        """Return True when the path, after following all links, is inside the directory that is served."""
        return path.resolve().is_relative_to(self._root.resolve())

    async def _file(self, path: str, scope: Scope) -> Response:
        try:
            response = await self._files.get_response(os.path.normpath(path), scope)
        except HTTPException as error:
            return _missing() if error.status_code == 404 else PlainTextResponse("Forbidden\n", error.status_code)
        file = Path(self._files.lookup_path(os.path.normpath(path))[0])
        if response.status_code == 304:
            response.headers["last-modified"] = formatdate(file.stat().st_mtime, usegmt=True)
        elif mimetypes.guess_type(path)[0] is None:
            response.headers["content-type"] = _sniffed(file)
        return response


def _sniffed(file: Path) -> str:
    """Return the type of a file whose name does not show it: plain text or bytes (a part of net/http's sniffing)."""
    with file.open("rb") as opened:
        start = opened.read(512)
    text = not any(byte < 0x20 and byte not in b"\t\n\f\r\x1b" for byte in start)
    return "text/plain; charset=utf-8" if text else "application/octet-stream"


def _missing() -> Response:
    return PlainTextResponse("404 page not found\n", 404, headers=_NOSNIFF)


def _moved(location: str, scope: Scope) -> Response:
    query = scope["query_string"].decode("latin-1")
    return Response(status_code=301, headers={"location": location + (f"?{query}" if query else "")})


def _listing(directory: Path) -> Response:
    lines = ["<!doctype html>", '<meta name="viewport" content="width=device-width">', "<pre>"]
    for entry in sorted(os.scandir(directory), key=lambda one: one.name):
        name = entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
        shown = html.escape(name, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        lines.append(f'<a href="{quote(name, safe="/$&+,;=:@" + "!*()" + chr(39))}">{shown}</a>')
    lines += ["</pre>", ""]
    modified = formatdate(directory.stat().st_mtime, usegmt=True)
    return Response("\n".join(lines), media_type="text/html", headers={"last-modified": modified})
