"""VitePress in development: a site of Markdown whose pages are modules, with a search in the browser"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("heading", name="Home").wait_for()
    page.wait_for_load_state("networkidle")
    page.get_by_role("link", name="The guide").click()
    page.get_by_text("written first").wait_for()
    page.reload()
    page.get_by_text("written first").wait_for()
    page.keyboard.press("/")
    page.get_by_placeholder("Search").fill("first")
    page.locator(".VPLocalSearchBox .result").first.click()
    page.get_by_text("written first").wait_for()


APP = App(
    name="vitepress",
    npm=("vitepress@1.6.4", "vue@3.5.45"),
    sources="vitepress",
    command=("{node}/node", "node_modules/vitepress/bin/vitepress.js", "dev", "docs", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
