"""Serves the dashboards: their files, and the part of Prometheus' HTTP API that they use. It keeps no state.

/               the page, which shows all dashboards
/NAME           its scripts and styles
/api/v1/...     Prometheus' HTTP API: queries, labels, series, metadata
/facts.json     facts for the page: `interval`, seconds between two scrapes; `oldest`, the time of the oldest sample in
                milliseconds, or null; `started`, the time when this program was started; `pod`, the name of its pod,
                "" outside a cluster; `proxied`, True when the request came through the proxy verb. By `started` and
                `pod`, the page excludes the program's own start from the problems that it lists
/logs           a redirect to the log explorer's Service, for pages below the proxy verb. The page cannot compute this
                address, because the proxy verb hides its path from scripts
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatchway.addons.pages.pagefiles import PageFiles
from hatchway.proxy.routing import App, ASGIApp, Decision, RequestHead, Respond

_HERE = Path(__file__).parent
# From /api/v1/namespaces/NS/services/NAME/proxy/logs.
_LOGS = b"../../../../kube-system/services/kibana-logging/proxy/"
_READING = re.compile(rb"/api/v1/(?:query|query_range|labels|label/[^/%]+/values|series|metadata|format_query)\Z")


class DashboardSite:
    """The dashboards' routing function.

    Args:
        api: the application that serves Prometheus' HTTP API.
        facts: returns the content of /facts.json.
    """

    def __init__(self, api: ASGIApp, facts: Callable[[], dict[str, Any]]) -> None:
        self._app = App(api)
        self._facts = facts
        self._files = PageFiles(_HERE / "vendor", _HERE / "pages", name="dashboards")

    def route(self, head: RequestHead) -> Decision:
        """Return the decision for a request."""
        if head.path == b"/logs" and head.method in ("GET", "HEAD"):
            return Respond(302, [(b"Location", _LOGS), (b"Cache-Control", b"no-store")])
        if not head.path.startswith(b"/api/") and head.path != b"/facts.json":
            return self._files.respond(head)
        if (refused := self._files.refuse_foreign(head)) is not None:
            return refused
        if head.path == b"/facts.json" and head.method in ("GET", "HEAD"):
            kept = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")]
            # The proxy verb sets this field, as kube-apiserver's does (apimachinery `pkg/util/proxy/transport.go`).
            uri = head.header(b"x-forwarded-uri") or b""
            return Respond(200, kept, json.dumps({**self._facts(), "proxied": b"/proxy/" in uri}).encode())
        if head.method not in ("GET", "POST") or not _READING.match(head.path):
            return self._files.refuse(404, "Only queries, labels, series and metadata are served here.")
        return self._app
