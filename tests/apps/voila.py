"""Voilà: a notebook as an application, with a kernel behind a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("sum 42").wait_for()
    page.get_by_role("button", name="Press").click()
    page.get_by_text("pressed").wait_for()


APP = App(
    name="voila",
    python=("voila==0.5.13", "ipywidgets==8.1.8", "ipykernel==7.1.0"),
    sources="voila",
    command=("{venv}/bin/voila", "page.ipynb", "--no-browser", "--Voila.ip={bind}", "--port={port}"),
    check=check,
    extra=True,
)
