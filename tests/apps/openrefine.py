"""Debian's OpenRefine: a table is pasted, parsed and opened, by requests with CSRF tokens; it checks its Host"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url, timeout=60_000)  # The first request compiles the styles.
    page.get_by_text("Clipboard", exact=True).first.click()
    page.locator("textarea").first.fill("name,year\nAda,1815\nGrace,1906\n")
    page.locator("button:visible", has_text="Next").first.click()
    page.locator("button:visible, a:visible", has_text="Create project").last.click()
    page.get_by_text("2 rows").first.wait_for()
    page.get_by_text("Grace").first.wait_for()


APP = App(
    name="openrefine",
    debian=("openrefine",),
    command=(
        "/usr/bin/openrefine",
        "-i",
        "{bind}",
        "-p",
        "{port}",
        "-d",
        "{work}/refine",
        "-x",
        "refine.headless=true",
    ),
    check=check,
    extra=True,
)
