"""A page for features that few applications use: COOP/COEP, CSP with nonces, all kinds of cookies, ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The features that the page tries; the result of each must be "ok".
PARTS = (
    "nonce",
    "isolated",
    "worker",
    "module worker",
    "shared worker",
    "import map",
    "lazy chunk",
    "wasm",
    "cookies",
    "event stream",
    "streamed answer",
    "websocket",
    "range",
    "upload",
    "redirect",
    "form data",
    "head",
    "router",
    "blob",
    "frame",
    "css url",
    "srcset",
    "html in text",
    "beacon",
    "storage",
    "request object",
    "trailing dots",
)


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("html[data-done]").wait_for(state="attached")
    found = page.evaluate("results")
    assert {name: found.get(name) for name in PARTS} == dict.fromkeys(PARTS, "ok")
    # Reload at an address that the router has set.
    page.reload()
    page.locator("html[data-done]").wait_for(state="attached")
    with page.expect_download() as download:
        page.get_by_role("link", name="download").click()
    assert download.value.suggested_filename == "answer.txt"
    assert download.value.path().read_text() == "42"
    page.get_by_role("button", name="post").click()
    page.get_by_text("posted six times seven").wait_for()
    page.go_back()
    page.locator("html[data-done]").wait_for(state="attached")


APP = App(
    name="features",
    python=("aiohttp==3.13.2",),
    sources="features",
    command=("{venv}/bin/python", "server.py", "{bind}", "{port}"),
    check=check,
)
