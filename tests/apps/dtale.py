"""D-Tale: a table that is fetched as it is scrolled, a router that reads its path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("dtale/main/1"))
    page.get_by_text("six times seven").first.wait_for()


APP = App(
    name="dtale",
    python=("dtale==3.22.0", "setuptools<81"),
    sources="dtale",
    command=("{venv}/bin/python", "table.py", "{bind}", "{port}"),
    check=check,
    extra=True,
)
