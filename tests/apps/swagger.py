"""FastAPI with Swagger UI: its page calls an operation of the API, at the address from which the page came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("docs"))
    page.get_by_text("/double/{number}").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_placeholder("number").fill("21")
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table .response-col_description", has_text="42").first.wait_for()


APP = App(
    name="swagger-ui",
    python=("fastapi==0.165.0", "uvicorn==0.38.0"),
    npm=("swagger-ui-dist@5.31.0",),
    sources="swagger",
    command=("{venv}/bin/uvicorn", "server:app", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
