"""Taipy: a page over socket.io."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("button", name="Press").click()
    page.get_by_text("pressed 1 times").first.wait_for()


APP = App(
    name="taipy",
    python=("taipy-gui==4.1.1", "flask==3.1.1", "setuptools<81"),
    sources="taipy",
    command=("{venv}/bin/python", "page.py", "{bind}", "{port}"),
    check=check,
    extra=True,
)
