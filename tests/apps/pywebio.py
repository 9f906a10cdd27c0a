"""PyWebIO: a page with questions, which arrive over a WebSocket"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_label("name").or_(page.locator("input")).first.fill("Ada")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("Hello, Ada!").wait_for()


APP = App(
    name="pywebio",
    python=("pywebio==1.8.4",),
    sources="pywebio",
    command=("{venv}/bin/python", "hello.py", "{bind}", "{port}"),
    check=check,
    extra=True,
)
