"""Next.js in development: pages by a client-side router, changes by a WebSocket, absolute paths everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    source = app.work / "app/page.js"
    text = source.read_text()
    source.write_text(text.replace("second", "first"))
    page.goto(app.url)
    page.get_by_text("first: 0").click()
    page.get_by_text("first: 1").wait_for()
    source.write_text(source.read_text().replace("first", "second"))
    page.get_by_text("second: 1").wait_for()
    page.get_by_role("link", name="about").click()
    page.get_by_role("heading", name="About").wait_for()
    page.reload()
    page.get_by_role("heading", name="About").wait_for()


APP = App(
    name="nextjs",
    npm=("next@16.0.10", "react@19.2.1", "react-dom@19.2.1"),
    sources="next",
    command=(
        "{node}/node",
        "node_modules/next/dist/bin/next",
        "dev",
        "--webpack",
        "--hostname={bind}",
        "--port={port}",
    ),
    env={"NEXT_TELEMETRY_DISABLED": "1"},
    check=check,
    extra=True,
)
