"""Panel: widgets over the WebSocket of a Bokeh server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("counter"))
    page.get_by_role("button", name="Press").click()
    page.get_by_text("pressed 1 times").first.wait_for()


APP = App(
    name="panel",
    python=("panel==1.9.4",),
    sources="panel",
    command=(
        "{venv}/bin/panel",
        "serve",
        "counter.py",
        "--address={bind}",
        "--port={port}",
    ),
    check=check,
    extra=True,
    fails={"direct": "it lets in WebSockets of pages from localhost:PORT only, not from 127.0.0.1"},
)
