"""Trac: a wiki page is edited by a form with a token, which a cookie holds, too; redirects to the request's Host"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("project/wiki/Sandbox" + app.mode))
    page.get_by_role("button", name="Create this page").first.click()
    page.locator("#text").fill(f"written by {app.mode}")
    page.get_by_role("button", name="Submit changes").click()
    page.get_by_text(f"written by {app.mode}").first.wait_for()
    page.get_by_role("link", name="Timeline").first.click()
    page.get_by_text("Sandbox").first.wait_for()


APP = App(
    name="trac",
    python=("trac==1.6", "setuptools==80.10.2"),
    setup=(
        ("{venv}/bin/trac-admin", "project", "initenv", "Project", "sqlite:db/trac.db"),
        ("{venv}/bin/trac-admin", "project", "permission", "add", "anonymous", "TRAC_ADMIN"),
    ),
    command=("{venv}/bin/tracd", "--hostname={bind}", "--port={port}", "project"),
    check=check,
    extra=True,
)
