"""Debian's Adminer: a PHP application that builds links from its path and redirects to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("select[name='auth[driver]']").select_option("sqlite")
    page.locator("input[name='auth[username]']").fill("ada")
    page.locator("input[name='auth[db]']").fill(str(app.work / "data.db"))
    page.get_by_role("button", name="Login").click()
    page.get_by_role("link", name="SQL command").first.click()
    page.locator("textarea[name=query], .sqlarea").first.click()
    page.keyboard.type("select 6 * 7 as answer")
    page.get_by_role("button", name="Execute").click()
    page.locator("td", has_text="42").first.wait_for()


APP = App(
    name="adminer",
    debian=("adminer", "php-cli", "php-sqlite3"),
    sources="adminer",
    setup=(("python3", "-c", "import sqlite3; sqlite3.connect('data.db').execute('create table t (a)')"),),
    command=("/usr/bin/php", "-d", "session.save_path={work}", "-S", "{bind}:{port}", "index.php"),
    check=check,
    extra=True,
)
