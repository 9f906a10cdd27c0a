"""live-server: it adds a script to each page; the script has a WebSocket, and reloads the page when a file changes"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("heading").first.wait_for()
    page.wait_for_timeout(1000)
    (app.work / "index.html").write_text(f"<!DOCTYPE html><html><body><h1>changed for {app.mode}</h1></body></html>")
    page.get_by_text(f"changed for {app.mode}").wait_for()


APP = App(
    name="live-server",
    npm=("live-server@1.2.2",),
    sources="liveserver",
    command=(
        "{node}/node",
        "node_modules/live-server/live-server.js",
        "--host={bind}",
        "--port={port}",
        "--no-browser",
    ),
    check=check,
    extra=True,
)
