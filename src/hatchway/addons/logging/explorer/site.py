"""Serves the log explorer: its files, and the part of Elasticsearch's API that its page needs. It keeps no state.

/                               the page
/NAME                           its scripts and styles
/api/INDICES/_search, _count    Elasticsearch's API, without requests that write
"""

from __future__ import annotations

import re
from pathlib import Path

from hatchway.addons.pages.pagefiles import PageFiles, below
from hatchway.proxy.routing import App, ASGIApp, Decision, RequestHead

_API = b"/api"
# "%" is not allowed: the API decodes a path before it matches the path, so an encoded name could become several names.
_READING = re.compile(rb"/[^/_.%][^/%]*/_(search|count)\Z")


class ExplorerSite:
    """The explorer's routing function. api: the application that serves Elasticsearch's API."""

    def __init__(self, api: ASGIApp) -> None:
        self._app = App(below(api, _API.decode()))
        self._files = PageFiles(Path(__file__).parent / "pages", name="log explorer")

    def route(self, head: RequestHead) -> Decision:
        """Return the decision for a request."""
        if head.path.startswith(_API + b"/"):
            return self._read(head)
        return self._files.respond(head)

    def _read(self, head: RequestHead) -> Decision:
        if (refused := self._files.refuse_foreign(head)) is not None:
            return refused
        if head.method not in ("GET", "POST") or not _READING.match(head.path[len(_API) :]):
            return self._files.refuse(404, "Only INDICES/_search and INDICES/_count are served here.")
        return self._app
