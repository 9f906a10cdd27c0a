"""Flower, the monitor of Celery: tables whose scripts read the page's address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("Showing 0 to 0 of 0").first.wait_for()
    page.get_by_role("link", name="Tasks").first.click()
    page.get_by_text("No tasks have been received").or_(page.get_by_text("No data available")).first.wait_for()
    page.get_by_role("link", name="Broker").first.click()
    page.get_by_text("memory").first.wait_for()


APP = App(
    name="flower",
    python=("flower==2.2.0",),
    command=("{venv}/bin/celery", "--broker=memory://", "flower", "--address={bind}", "--port={port}"),
    check=check,
    extra=True,
)
