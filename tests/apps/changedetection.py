"""changedetection.io: a page to watch is entered by a form with a CSRF token; updates come by socket.io"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("input[name=url]").first.fill(f"http://127.0.0.1:9/{app.mode}")
    page.get_by_role("button", name="Watch", exact=True).first.click()
    page.get_by_text(f"127.0.0.1:9/{app.mode}").first.wait_for()
    page.goto(app.at("settings"))
    page.get_by_role("link", name="API").first.click()


APP = App(
    name="changedetection",
    python=("changedetection.io==0.60.10",),
    command=("{venv}/bin/changedetection.io", "-d", "{work}", "-C", "-h", "{bind}", "-p", "{port}"),
    check=check,
    extra=True,
)
