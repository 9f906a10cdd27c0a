"""Dagster: a single page application that speaks GraphQL, also over a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("Overview").first.wait_for()
    page.get_by_text("Deployment").first.click()
    page.get_by_text("Code locations").first.wait_for()


APP = App(
    name="dagster",
    python=("dagster-webserver==1.13.28",),
    sources="dagster",
    command=("{venv}/bin/dagster-webserver", "-f", "jobs.py", "--host={bind}", "--port={port}"),
    env={"DAGSTER_HOME": "{work}"},
    check=check,
    extra=True,
)
