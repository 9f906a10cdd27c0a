"""pgAdmin: CSRF tokens, a single page with panels, cookies with a Path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("browser/"))
    page.get_by_text("Object Explorer").first.wait_for(timeout=60_000)
    page.get_by_text("Add New Server").first.wait_for()
    page.get_by_text("Add New Server").first.click()
    page.get_by_text("Register - Server").first.wait_for()


APP = App(
    name="pgadmin",
    python=("pgadmin4==9.18",),
    sources="pgadmin",
    command=("{venv}/bin/python", "serve.py", "{bind}", "{port}"),
    env={"WORK": "{work}", "PGADMIN_SETUP_EMAIL": "ada@example.com", "PGADMIN_SETUP_PASSWORD": "lovelace"},
    check=check,
    extra=True,
)
