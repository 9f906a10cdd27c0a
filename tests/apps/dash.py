"""Dash: callbacks at absolute paths, layouts and scripts loaded by JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.fill("#name", "Ada")
    page.get_by_text("Hello, Ada!").wait_for()
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.get_by_role("link", name="second").click()
    page.get_by_text("This is /second").wait_for()


APP = App(
    name="dash",
    python=("dash==4.4.1",),
    sources="dash",
    command=("{venv}/bin/python", "dashboard.py", "{bind}", "{port}"),
    check=check,
    extra=True,
)
