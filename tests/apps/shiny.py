"""Shiny for Python: reactive outputs over a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_label("Name").fill("Ada")
    page.get_by_text("Hello, Ada!").wait_for()


APP = App(
    name="shiny",
    python=("shiny==1.8.0",),
    sources="shiny",
    command=("{venv}/bin/shiny", "run", "page.py", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
