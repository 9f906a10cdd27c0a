"""Radicale: its page speaks WebDAV to the server; a script puts the password into a header field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_url("**/.web/*")
    page.locator("input[type=text], input[name=user], #loginscene input").first.fill("ada")
    page.locator("input[type=password]").first.fill("any")
    page.get_by_role("button", name="Next").click()
    page.get_by_text("Collections").first.wait_for()


APP = App(
    name="radicale",
    python=("radicale==3.9.0",),
    command=(
        "{venv}/bin/radicale",
        "--server-hosts={bind}:{port}",
        "--storage-filesystem-folder={work}/collections",
        "--auth-type=none",
    ),
    check=check,
    extra=True,
)
