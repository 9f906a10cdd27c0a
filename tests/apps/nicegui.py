"""NiceGUI: every click goes over its socket.io."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("button", name="Press").click()
    page.get_by_text("pressed 1 times").wait_for()
    page.get_by_label("Name").fill("Ada")
    page.get_by_text("Hello, Ada!").wait_for()


APP = App(
    name="nicegui",
    python=("nicegui==3.18.0",),
    sources="nicegui",
    command=("{venv}/bin/python", "page.py", "{bind}", "{port}"),
    check=check,
    extra=True,
)
