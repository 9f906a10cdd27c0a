"""Slidev: slides that are modules of Vite, a router that reads its path, a synchronized presenter view"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("heading", name="First").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="Second").wait_for()
    assert page.url.split("?")[0] == app.at("2")
    page.reload()
    page.get_by_role("heading", name="Second").wait_for()


APP = App(
    name="slidev",
    npm=("@slidev/cli@53.0.0", "@slidev/theme-default@0.25.0"),
    sources="slidev",
    command=(
        "{node}/node",
        "node_modules/@slidev/cli/bin/slidev.mjs",
        "slides.md",
        "--port={port}",
        "--remote",
        "--bind={bind}",
        "--open=false",
    ),
    check=check,
    extra=True,
)
