"""Debian's gitweb, in Perl: XHTML from a CGI program, whose addresses are queries with semicolons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("link", name="letters.git").first.click()
    page.get_by_role("link", name="commit", exact=True).first.click()
    page.get_by_text("The first letter").first.wait_for()
    page.get_by_role("link", name="tree", exact=True).first.click()
    page.get_by_role("link", name="a.txt").first.click()
    # A script adds these links.
    page.locator("a[href*='js=1']").first.wait_for(state="attached")
    page.get_by_role("link", name="raw").first.click()
    page.get_by_text("hello").first.wait_for()


APP = App(
    name="gitweb",
    debian=("gitweb", "libcgi-pm-perl", "lighttpd", "git"),
    sources="gitweb",
    setup=(("/bin/sh", "setup"),),
    command=("/bin/sh", "start", "{port}"),
    check=check,
    extra=True,
)
