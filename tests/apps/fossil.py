"""Debian's Fossil: a log-in and a new ticket, by forms with tokens; addresses built from Host"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("link", name="Login").first.click()
    page.locator("input[name=u]").fill("ada")
    page.locator("input[name=p]").fill("lovelace")
    page.locator("input[name=in]").click()
    page.goto(app.url + "ticket")
    page.get_by_role("link", name="New Ticket").first.click()
    page.locator("input[name=title]").fill(f"engine {app.mode}")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(f"engine {app.mode}").first.wait_for()


APP = App(
    name="fossil",
    debian=("fossil",),
    setup=(
        ("/usr/bin/fossil", "init", "-A", "ada", "{work}/x.fossil"),
        ("/usr/bin/fossil", "user", "password", "ada", "lovelace", "-R", "{work}/x.fossil"),
    ),
    command=("/usr/bin/fossil", "server", "--port", "{port}", "{work}/x.fossil"),
    env={"USER": "ada"},
    check=check,
    extra=True,
)
