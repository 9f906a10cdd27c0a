"""Debian's Deluge: a page of ExtJS and JSON-RPC behind a log-in, which sets a cookie with a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    password = page.locator("input[type=password]").first
    password.fill("deluge")
    password.press("Enter")
    page.get_by_text("localclient@127.0.0.1").first.wait_for()


APP = App(
    name="deluge",
    debian=("deluge-web",),
    sources="deluge",
    command=("/usr/bin/deluge-web", "--do-not-daemonize", "--config={work}", "--interface={bind}", "--port={port}"),
    check=check,
    extra=True,
)
