"""Netron: a model drawn in the browser, by modules that are loaded when a format needs them"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("button", name="Accept").click()
    page.locator("svg .node").first.wait_for()
    page.get_by_text("connected", exact=True).first.wait_for()


APP = App(
    name="netron",
    python=("netron==9.3.3",),
    sources="netron",
    command=("{venv}/bin/netron", "--host={bind}", "--port={port}", "model.cfg"),
    check=check,
    extra=True,
)
