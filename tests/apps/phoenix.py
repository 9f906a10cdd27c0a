"""Arize Phoenix: a single page application that sends GraphQL queries, with a base path in its page"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("Projects").first.wait_for()
    page.get_by_role("link", name="Datasets").first.click()
    page.get_by_text("Datasets").first.wait_for()
    page.reload()
    page.get_by_text("Datasets").first.wait_for()


APP = App(
    name="phoenix",
    python=("arize-phoenix==20.26.1",),
    command=("{venv}/bin/phoenix", "serve"),
    env={
        "PHOENIX_HOST": "{bind}",
        "PHOENIX_PORT": "{port}",
        "PHOENIX_WORKING_DIR": "{work}",
        "PHOENIX_TELEMETRY_ENABLED": "false",
    },
    check=check,
    extra=True,
)
