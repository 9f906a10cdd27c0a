"""sqlite-web: a table is made by a form and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("link", name="Query").first.click()
    page.locator("textarea[name=sql]").fill("select 6 * 7 as answer")
    page.get_by_role("button", name="Execute").click()
    page.locator("td", has_text="42").first.wait_for()


APP = App(
    name="sqlite-web",
    python=("sqlite-web==0.8.2",),
    command=("{venv}/bin/sqlite_web", "--no-browser", "--host={bind}", "--port={port}", "{work}/data.db"),
    check=check,
    extra=True,
)
