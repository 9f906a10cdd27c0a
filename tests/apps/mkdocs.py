"""MkDocs: a page asks by long polling whether its source has changed, and reloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    source = app.work / "docs/index.md"
    source.write_text("# First\n\nA needle in a haystack.\n")
    page.goto(app.url)
    page.get_by_role("heading", name="First").wait_for()
    page.wait_for_timeout(500)
    source.write_text("# Second\n\nA needle in a haystack.\n")
    page.get_by_role("heading", name="Second").wait_for()


APP = App(
    name="mkdocs",
    python=("mkdocs==1.6.1", "click<8.3"),
    sources="mkdocs",
    command=("{venv}/bin/mkdocs", "serve", "--dev-addr={bind}:{port}", "--livereload"),
    check=check,
    extra=True,
)
