"""Storybook: stories in a frame, chosen in a tree; two WebSockets, one to the port that Vite believes is its own"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    story = app.work / "src/greeting.stories.js"
    story.write_text(story.read_text().replace("Welcome", "Hello"))
    preview = page.frame_locator("#storybook-preview-iframe")
    # The modules are put together when they are asked for.
    page.set_default_timeout(60_000)
    page.goto(app.url)
    preview.get_by_text("Hello Ada").wait_for()
    page.locator("#storybook-explorer-tree").get_by_text("Second").first.click()
    preview.get_by_text("Hello Grace").wait_for()
    page.reload()
    preview.get_by_text("Hello Grace").wait_for()
    page.wait_for_timeout(1000)
    story.write_text(story.read_text().replace("Hello", "Welcome"))
    preview.get_by_text("Welcome Grace").wait_for()


APP = App(
    name="storybook",
    npm=("storybook@10.6.7", "@storybook/html-vite@10.6.0", "vite@8.4.0"),
    sources="storybook",
    command=(
        "{node}/node",
        "node_modules/storybook/dist/bin/dispatcher.js",
        "dev",
        "--host={bind}",
        "--port={port}",
        "--exact-port",
        "--ci",
    ),
    env={"STORYBOOK_DISABLE_TELEMETRY": "1", "CI": "true"},
    check=check,
    extra=True,
)
