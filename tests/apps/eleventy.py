"""Eleventy: pages from Markdown; the changed parts of a page arrive over a WebSocket, and a script inserts them"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("heading").first.wait_for()
    page.wait_for_timeout(1000)
    (app.work / "index.md").write_text(f"# changed for {app.mode}\n")
    page.get_by_text(f"changed for {app.mode}").wait_for()


APP = App(
    name="eleventy",
    npm=("@11ty/eleventy@3.1.8",),
    sources="eleventy",
    command=("{node}/node", "node_modules/@11ty/eleventy/cmd.cjs", "--serve", "--port={port}", "--quiet"),
    check=check,
    extra=True,
)
