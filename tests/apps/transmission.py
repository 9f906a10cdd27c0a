"""Debian's Transmission: a session id, which its page gets from an error response (409), and a check of Host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_url("**/transmission/web/*")
    page.get_by_text("0 Transfers").first.wait_for()


APP = App(
    name="transmission",
    debian=("transmission-daemon",),
    command=(
        "/usr/bin/transmission-daemon",
        "--foreground",
        "--config-dir={work}/config",
        "--port={port}",
        "--rpc-bind-address={bind}",
        "--no-auth",
        "--allowed=*",
        "--no-portmap",
        "--no-dht",
    ),
    check=check,
    extra=True,
)
