"""Calibre-Web: first steps of a set-up behind a log-in with a CSRF token"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("#username").fill("admin")
    page.locator("#password").fill("admin123")
    page.locator("#submit, [name=submit]").first.click()
    page.get_by_text("Location of Calibre Database").first.wait_for()


APP = App(
    name="calibreweb",
    python=("calibreweb==0.6.27",),
    command=("{venv}/bin/cps", "-p", "{work}/app.db", "-i", "{bind}"),
    env={"CALIBRE_PORT": "{port}"},
    check=check,
    extra=True,
)
