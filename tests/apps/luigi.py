"""Luigi: a page made from templates, with tables that scripts fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_url("**/static/visualiser/index.html*")
    page.get_by_text("Showing 0 to 0 of 0 entries").first.wait_for()
    page.get_by_role("link", name="Workers").first.click()
    page.wait_for_url("**#*workers*")


APP = App(
    name="luigi",
    python=("luigi==3.8.1",),
    command=("{venv}/bin/luigid", "--address={bind}", "--port={port}", "--state-path={work}/state"),
    check=check,
    extra=True,
)
