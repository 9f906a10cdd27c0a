"""Debian's Netdata: charts of data that scripts request every second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("System Overview").first.wait_for()
    page.locator("#menu_system_submenu_load, a[href='#menu_system_submenu_load']").first.wait_for(state="attached")
    page.locator("canvas").first.wait_for()


APP = App(
    name="netdata",
    debian=("netdata-core", "netdata-web"),
    sources="netdata",
    command=("/bin/sh", "start", "{port}"),
    check=check,
    extra=True,
)
