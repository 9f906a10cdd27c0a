"""Prefect: a single page application whose API is below /api."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("Run a task or flow").first.wait_for()
    page.get_by_role("link", name="Variables").first.click()
    page.get_by_role("button", name="Add Variable").or_(page.get_by_text("Add a variable")).first.wait_for()


APP = App(
    name="prefect",
    python=("prefect==3.9.1",),
    command=("{venv}/bin/prefect", "server", "start", "--host={bind}", "--port={port}"),
    env={
        "PREFECT_HOME": "{work}/.prefect",
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    },
    check=check,
    extra=True,
)
