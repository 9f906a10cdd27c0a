"""The page at `http://prefix.localhost/`: a list of targets with their proxy paths.

Applications share this origin, and their scripts must not read the list. So browsers get it only by a navigation of a
window, as a page without scripts, in a sandbox with a separate origin, and not in frames. Tools get text.
"""

from __future__ import annotations

import asyncio
from html import escape

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from hatchway.door.pages import listing
from hatchway.kube.catalog import CatalogEntry, entries
from hatchway.kube.view import View
from hatchway.target import format_argument

# After this many seconds without an answer of the cluster, the page lists the targets that are known so far.
_PATIENCE = 10.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}


class PrefixList:
    """An ASGI application that lists targets."""

    def __init__(self, view: View, portal: str) -> None:
        """Prepare to list a view's targets. portal: the portal's URL; "" for none."""
        self._view = view
        self._portal = portal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        request = Request(scope)
        try:
            await asyncio.wait_for(self._view.complete(), _PATIENCE)
        except TimeoutError:
            pass  # the page then says that the cluster does not answer
        found = entries(self._view)
        response: Response
        if "text/html" in request.headers.get("accept", ""):
            response = Response(self._page(found), media_type="text/html", headers=_HEADERS)
        else:
            origin = f"http://{request.headers.get('host', '')}"
            lines = [f"{origin}{path}\n" for entry in found for path in paths(entry)]
            response = PlainTextResponse("".join(lines), headers=_HEADERS)
        await response(scope, receive, send)

    def _page(self, found: list[CatalogEntry]) -> str:
        sections: dict[str, list[str]] = {}
        for entry in found:
            name = escape(format_argument(entry.target))
            for path in paths(entry):
                link = f'<a href="{escape(path)}">{name}</a>'
                row = f"<div><dt>{link}</dt><dd>{escape(path)}<br>{escape(entry.status)}</dd></div>"
                sections.setdefault(entry.target.namespace, []).append(row)
        rows = [
            f'<section><h2>{escape(namespace or "Nodes")}</h2><dl class="box">{"".join(listed)}</dl></section>'
            for namespace, listed in sections.items()
        ]
        hint = "" if found else "<p>The cluster has nothing that you may list, or it does not answer.</p>"
        state = self._view.state
        if not found and state.reason:
            hint = f"<p>{escape(state.reason)}</p>"
        return listing(
            "Applications under a path prefix",
            "Each address below is a service, pod or node under its proxy path. Applications work better under a host "
            "name of their own; the portal lists these host names.",
            hint + "".join(rows),
            self._portal,
        )


def paths(entry: CatalogEntry) -> list[str]:
    """Return the proxy paths of a target that a browser can open."""
    if entry.out_of_reach:
        return []
    return list(dict.fromkeys(link.path for link in entry.links if link.http is not False and link.path))
