"""The door's error answers: a page for browsers, Kubernetes `Status` JSON for other clients.

Pure, except for reading the page's files.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterable
from html import escape

from hatchway.door.assets import read
from hatchway.door.problems.problem import Detail, DoorProblem, as_error, extra_headers
from hatchway.proxy.routing import Headers, Respond

_LOGO = (
    '<svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true">'
    '<rect width="32" height="32" rx="8" class="brand"/>'
    '<g fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round"><path d="M9 8v16M23 8v16M9 16h14"/>'
    '<path d="M16 12.2v7.6" opacity=".55"/></g></svg>'
)


def error_answer(problem: DoorProblem, accept_html: bool) -> Respond:
    """Return a problem as an answer: as a page when `accept_html`, else as `Status` JSON."""
    headers: Headers = [
        (b"Cache-Control", b"no-store"),
        (b"Vary", b"Accept"),
        (b"X-Content-Type-Options", b"nosniff"),
        *extra_headers(problem),
    ]
    error = as_error(problem)
    have = {name.lower() for name, _ in headers}
    headers += [field for field in error.headers() if field[0] not in have]
    if not accept_html:
        body = json.dumps(error.status()).encode()
        return Respond(problem.status, [(b"Content-Type", b"application/json"), *headers], body)
    style, script = _style(), _script()
    # frame-ancestors is not set: the page is harmless in a frame, and applications may use frames for their own pages.
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    headers += [(b"Content-Security-Policy", policy.encode()), (b"Referrer-Policy", b"no-referrer")]
    return Respond(problem.status, [(b"Content-Type", b"text/html; charset=utf-8"), *headers], _page(problem).encode())


def listing(title: str, message: str, rows: str, portal: str) -> str:
    """Return a page in the same style, without scripts.

    Args:
        title: its heading, as text.
        message: the sentence below it, as text.
        rows: the content below the message, as HTML.
        portal: the portal's URL; "" for no link.
    """
    name = "<span>Hatchway</span>"
    brand = f'<a href="{escape(portal)}">{_LOGO}{name}</a>' if _is_link(portal) else f"{_LOGO}{name}"
    return "\n".join(
        (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="robots" content="noindex">',
            f"<style>{_style()}</style>\n</head>\n<body>\n<main>",
            f'<header>{brand}</header>\n<h1>{escape(title)}</h1>\n<p class="message">{escape(message)}</p>',
            f"{rows}\n</main>\n</body>\n</html>\n",
        )
    )


@functools.cache
def _style() -> str:
    return read("tokens.css") + read("problem.css")


@functools.cache
def _script() -> str:
    return read("problem.js")


@functools.cache
def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page(problem: DoorProblem) -> str:
    title = escape(problem.title)
    name = "<span>Hatchway</span>"
    brand = f'<a href="{escape(problem.portal)}">{_LOGO}{name}</a>' if _is_link(problem.portal) else f"{_LOGO}{name}"
    refresh = f'<noscript><meta http-equiv="refresh" content="{problem.retry * 5}"></noscript>' if problem.retry else ""
    parts = [
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">',
        f"{refresh}<style>{_style()}</style>\n</head>\n<body>\n<main>",
        f'<header>{brand}<span class="status">{problem.status}</span></header>',
        f'<h1>{title}</h1>\n<p class="message">{escape(_sentence(problem.message))}</p>',
        _retry(problem),
        _details(problem.details_title, problem.details),
        _links(problem),
        _todo(problem),
        _facts(problem.facts, problem.facts_title),
        _footer(problem),
        f"</main>\n<script>{_script()}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _retry(problem: DoorProblem) -> str:
    if not problem.retry:
        return ""
    return (
        f'<section id="retry" data-seconds="{problem.retry}" data-problem="{escape(problem.kind)}">'
        "<i></i><span>Trying again <b>by itself</b></span></section>"
    )


def _details(title: str, details: Iterable[Detail]) -> str:
    rows = "".join(
        f'<li><span class="dot {escape(detail.state)}" aria-hidden="true"></span><code>{escape(detail.name)}</code>'
        + (f'<span class="text">{escape(detail.text)}</span>' if detail.text else "")
        + "</li>"
        for detail in details
    )
    return f'<section><h2>{escape(title)}</h2><ul class="box rows">{rows}</ul></section>' if rows else ""


def _links(problem: DoorProblem) -> str:
    rows = "".join(
        f'<a class="button" href="{escape(url)}">{escape(text)}</a>' for text, url in problem.links if _is_link(url)
    )
    return f'<section><h2>{escape(problem.links_title)}</h2><div class="links">{rows}</div></section>' if rows else ""


def _is_link(url: str) -> bool:
    """Return True for a URL that is safe in a link: no `javascript:`, and no other host after `//`."""
    return url.startswith(("http://", "https://", "/")) and not url.startswith(("//", "/\\"))


def _todo(problem: DoorProblem) -> str:
    out = f'<p class="todo">{escape(problem.hint)}</p>' if problem.hint else ""
    if problem.commands:
        out += _snippet("commands", "\n".join(problem.commands), "the commands")
    if problem.rule:
        out += f"</section><section><h2>{escape(problem.rule_title)}</h2>" + _snippet("rule", problem.rule, "the rule")
    return f"<section><h2>What to do</h2>{out}</section>" if out else ""


def _snippet(name: str, text: str, what: str) -> str:
    return (
        f'<div class="snippet"><pre id="{name}" tabindex="0">{escape(text)}</pre>'
        f'<button class="button copy-text" type="button" data-for="{name}" aria-label="Copy {what}" hidden>'
        "Copy</button></div>"
    )


def _facts(facts: Iterable[tuple[str, str]], title: str) -> str:
    rows = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in facts)
    return f'<section><h2>{escape(title)}</h2><dl class="box">{rows}</dl></section>' if rows else ""


def _footer(problem: DoorProblem) -> str:
    portal = f' <a href="{escape(problem.portal)}">All that you may reach</a>' if _is_link(problem.portal) else ""
    return f"<footer>Hatchway's door answers here, not the application.{portal}</footer>"
