"""Flet: a Flutter application that draws on a canvas, a base address in its page, events over a WebSocket"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    # The test cannot read a canvas. It switches on the semantics for screen readers, and reads these.
    page.locator("flt-semantics-placeholder").dispatch_event("click")
    page.get_by_text("pressed 0 times").wait_for()
    page.get_by_role("button", name="press").click()
    page.get_by_text("pressed 1 times").wait_for()


APP = App(
    name="flet",
    python=("flet[web]==1.0.5",),
    sources="flet",
    command=("{venv}/bin/python", "counter.py", "{bind}", "{port}"),
    env={"FLET_WEB_NO_CDN": "true"},
    check=check,
    extra=True,
)
