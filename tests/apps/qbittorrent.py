"""Debian's qBittorrent: a log-in by script, and checks of Host, Origin and Referer against forged requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page

_MAGNET = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&dn=a-file-of-ada"


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("#username").fill("admin")
    page.locator("#password").fill("adminadmin")
    page.locator("#login").click()
    page.locator("#downloadButton, a[href='download.html']").first.click(force=True)
    frame = page.frame_locator("iframe[src*='download.html']")
    frame.locator("#urls").fill(_MAGNET)
    frame.locator("#submitButton").click()
    page.get_by_text("a-file-of-ada").first.wait_for()


APP = App(
    name="qbittorrent",
    debian=("qbittorrent-nox",),
    sources="qbittorrent",
    command=("/usr/bin/qbittorrent-nox", "--profile={work}", "--webui-port={port}"),
    check=check,
    extra=True,
)
