"""Makes the answers to requests that cannot be served: HTML for browsers, one line of text for other clients."""

from __future__ import annotations

import html
from http import HTTPStatus

from hatchway.proxy.routing import Headers, Respond, get_header

__all__ = ["engine_error", "page"]

_NO_CACHE = (b"Cache-Control", b"no-store")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {reason}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;padding:0 1em;color:#222;
background:#fff}}h1{{font-size:1.4em}}@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}}}</style>
</head><body><h1>{status} {reason}</h1><p>{text}</p></body></html>
"""


def page(asked: Headers, status: int, text: str) -> Respond:
    """Return an answer as HTML or plain text, as the client accepts.

    asked: the request's fields. text: a sentence; it may contain texts from clients, so it is escaped.
    """
    if b"text/html" not in (get_header(asked, b"accept") or b""):
        return engine_error(status, text)
    body = _PAGE.format(status=status, reason=HTTPStatus(status).phrase, text=html.escape(text))
    headers: Headers = [(b"Content-Type", b"text/html; charset=utf-8"), _NO_CACHE]
    return Respond(status, headers, body.encode())


def engine_error(status: int, text: str) -> Respond:
    """Return an answer as plain text. text: a sentence."""
    headers: Headers = [(b"Content-Type", b"text/plain; charset=utf-8"), _NO_CACHE]
    return Respond(status, headers, f"{status} {HTTPStatus(status).phrase}: {text}\n".encode())
