"""Datasette: tables of a database, a query typed by hand, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("link", name="data", exact=True).first.click()
    page.get_by_role("link", name="numbers").first.click()
    page.get_by_role("link", name="six").first.wait_for()
    page.goto(app.at("data?sql=select+6*7+as+answer"))
    page.locator("td", has_text="42").wait_for()
    page.locator(".CodeMirror").first.wait_for()
    page.get_by_role("link", name="json", exact=True).click()
    assert "42" in page.inner_text("body")


APP = App(
    name="datasette",
    python=("datasette==0.65.5",),
    sources="datasette",
    setup=(("{venv}/bin/python", "make.py"),),
    command=("{venv}/bin/datasette", "serve", "data.db", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
