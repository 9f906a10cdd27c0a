"""Browsersync: its page reloads when the server reports a changed file over socket.io."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    source = app.work / "index.html"
    source.write_text("<!doctype html><html><body><h1>first</h1></body></html>")
    page.goto(app.url)
    page.get_by_text("first", exact=True).wait_for()
    page.get_by_text("Browsersync: connected").wait_for(state="attached")
    page.wait_for_timeout(1000)
    source.write_text("<!doctype html><html><body><h1>second</h1></body></html>")
    page.get_by_text("second", exact=True).wait_for()


APP = App(
    name="browser-sync",
    npm=("browser-sync@3.0.4",),
    sources="browsersync",
    command=(
        "{node}/node",
        "{modules}/browser-sync/dist/bin.js",
        "start",
        "--server=.",
        "--files=*.html",
        "--no-open",
        "--no-ui",
        "--listen={bind}",
        "--port={port}",
    ),
    check=check,
    extra=True,
)
