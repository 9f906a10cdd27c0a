"""marimo: a reactive notebook in its editor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator(".cm-content").first.wait_for()
    # Run the cells that have not run yet; an earlier mode may have run all.
    page.keyboard.press("Control+Shift+R")
    page.get_by_text("six times seven is 42").first.wait_for()


APP = App(
    name="marimo",
    python=("marimo==0.25.2",),
    sources="marimo",
    command=(
        "{venv}/bin/marimo",
        "--yes",
        "edit",
        "notebook.py",
        "--headless",
        "--no-token",
        "--host={bind}",
        "--port={port}",
        "--skip-update-check",
    ),
    check=check,
    extra=True,
)
