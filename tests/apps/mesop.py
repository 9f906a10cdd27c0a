"""Mesop: a page whose every event is answered by server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("button", name="pressed 0 times").click()
    page.get_by_role("button", name="pressed 1 times").wait_for()


APP = App(
    name="mesop",
    python=("mesop==1.3.7", "gunicorn==23.0.0"),
    sources="mesop",
    command=("{venv}/bin/gunicorn", "--bind={bind}:{port}", "--threads=8", "page:wsgi"),
    check=check,
    extra=True,
)
