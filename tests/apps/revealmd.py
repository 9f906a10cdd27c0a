"""reveal-md: slides made from Markdown; the URL's fragment names the current slide"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("link", name="deck").first.click()
    page.locator("section.present").get_by_role("heading", name="First slide").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator("section.present").get_by_role("heading", name="Second slide").wait_for()
    page.reload()
    page.locator("section.present").get_by_role("heading", name="Second slide").wait_for()
    assert page.url.startswith(app.at("deck.md#/"))


APP = App(
    name="reveal-md",
    npm=("reveal-md@6.1.2",),
    sources="revealmd",
    command=(
        "{node}/node",
        "{modules}/reveal-md/bin/reveal-md.js",
        "{work}",
        "--host={bind}",
        "--port={port}",
        "--disable-auto-open",
    ),
    check=check,
    extra=True,
)
