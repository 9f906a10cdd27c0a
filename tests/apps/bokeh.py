"""Bokeh server: a session over one WebSocket with a sub-protocol, a token in it, and a check of Origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("counter"))
    page.get_by_role("button", name="pressed 0 times").click()
    page.get_by_role("button", name="pressed 1 times").wait_for()
    page.locator("canvas").first.wait_for()


APP = App(
    name="bokeh",
    python=("bokeh==3.9.2",),
    sources="bokeh",
    command=(
        "{venv}/bin/bokeh",
        "serve",
        "counter.py",
        "--address={bind}",
        "--port={port}",
    ),
    check=check,
    extra=True,
    fails={"direct": "it lets in WebSockets of pages from localhost:PORT only, not from 127.0.0.1"},
)
