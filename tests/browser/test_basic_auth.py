"""A real browser reaches a service through the API server's proxy with HTTP basic authentication."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.chromium import chromium
from tests.conftest import Cluster, wait_for
from tests.integration.cluster.test_documentation import set_password

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HEALTH = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/_cluster/health?pretty=true"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run the full Chromium: the headless shell does not ask for passwords."""
    with chromium(windows=True) as running:
        yield running


def test_the_documentations_url_in_a_browser(cluster: Cluster, browser: Browser) -> None:
    set_password(cluster, "ada", "lovelace", "system:masters")
    try:
        wait_for(
            lambda: (
                cluster.get("/", token=None, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}).status
                == 401
            )
        )
        # Playwright sends credentials only after a challenge, as browsers do.
        context = browser.new_context(
            ignore_https_errors=True,
            http_credentials={"username": "ada", "password": "lovelace", "send": "unauthorized"},
        )
        page = context.new_page()
        response = page.goto(cluster.server + HEALTH)
        assert response is not None
        assert response.status == 200
        assert '"cluster_name"' in page.inner_text("body")
        context.close()
        stranger = browser.new_context(
            ignore_https_errors=True, http_credentials={"username": "ada", "password": "wrong"}
        )
        refused = stranger.new_page().goto(cluster.server + HEALTH)
        assert refused is not None
        assert refused.status == 401
        stranger.close()
    finally:
        cluster.hatchway("password", "ada", "--remove")


def test_a_page_behind_the_proxy_finds_its_parts(cluster: Cluster, browser: Browser) -> None:
    """Addresses of links, images and styles get the prefix, so that they are found."""
    page_source = (
        "<html><head><link rel=stylesheet href=/style.css></head><body><h1>hello</h1>"
        "<a href=/second>second</a></body></html>"
    )
    program = f"""
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        bodies = {{"/": ("text/html", {page_source!r}), "/style.css": ("text/css", "h1 {{ color: rgb(1, 2, 3) }}"),
                  "/second": ("text/html", "<h1>second page</h1>")}}
        kind, text = bodies.get(self.path, ("text/plain", "?"))
        self.send_response(200 if self.path in bodies else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
http.server.ThreadingHTTPServer((os.environ.get("HATCHWAY_POD_IP", ""), 8080), Handler).serve_forever()
"""
    cluster.kubectl("run", "site", "--image=hatchway/host", "--port=8080", "--command", "--", "python3", "-c", program)
    cluster.kubectl("wait", "pod/site", "--for=condition=Ready", "--timeout=30s")
    set_password(cluster, "ada", "lovelace", "system:masters")
    try:
        context = browser.new_context(
            ignore_https_errors=True,
            http_credentials={"username": "ada", "password": "lovelace", "send": "unauthorized"},
        )
        page = context.new_page()
        base = cluster.server + "/api/v1/namespaces/default/pods/site:8080/proxy/"
        wait_for(lambda: page.goto(base).status == 200)  # type: ignore[union-attr]
        assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
        page.click("a")
        page.wait_for_url("**/proxy/second")
        assert page.inner_text("h1") == "second page"
        context.close()
    finally:
        cluster.hatchway("password", "ada", "--remove")
        cluster.kubectl("delete", "pod", "site", "--now")
