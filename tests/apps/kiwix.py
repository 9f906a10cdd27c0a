"""Debian's Kiwix: the pages of an archive below the archive's name, each with an inserted search box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("Letters of Ada").first.click()
    page.get_by_role("link", name="the second one").click()
    page.get_by_text("forty-two").first.wait_for()
    page.go_back()
    page.locator("#kiwixsearchbox").fill("Second")
    page.get_by_text("Second letter").first.wait_for()


APP = App(
    name="kiwix",
    debian=("kiwix-tools", "zim-tools"),
    sources="kiwix",
    setup=(
        (
            "/usr/bin/zimwriterfs",
            "--welcome=index.html",
            "--illustration=picture.png",
            "--language=eng",
            "--title=Letters of Ada",
            "--description=Two",
            "--creator=Ada",
            "--publisher=Ada",
            "--name=letters",
            "pages",
            "letters.zim",
        ),
    ),
    command=("/usr/bin/kiwix-serve", "--port={port}", "--address={bind}", "letters.zim"),
    check=check,
    extra=True,
)
