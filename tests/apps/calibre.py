"""Debian's calibre: one script makes the page; it shows books in frames, into which it writes pages and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("library", exact=True).last.click()
    page.locator("[data-book-id]").first.click()
    page.get_by_text("Read", exact=True).first.click()
    page.frame_locator("iframe").last.get_by_text("forty-two").first.wait_for(state="attached", timeout=60_000)


APP = App(
    name="calibre",
    debian=("calibre-bin", "calibre"),
    sources="calibre",
    setup=(("/usr/bin/calibredb", "add", "--library-path={work}/library", "letters.txt"),),
    command=("/usr/bin/calibre-server", "--listen-on={bind}", "--port={port}", "{work}/library"),
    check=check,
    extra=True,
)
