"""Debian's Shell In A Box: a terminal by long polling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("#vt100").wait_for()
    page.get_by_text("ready").first.wait_for()
    page.keyboard.type("six times seven\n")
    page.get_by_text("got six times seven").first.wait_for()


APP = App(
    name="shellinabox",
    debian=("shellinabox",),
    command=(
        "/usr/bin/shellinaboxd",
        "--disable-ssl",
        "--port={port}",
        '--service=/:root:root:/:echo ready; while read -r line; do echo "got $line"; done',
    ),
    check=check,
    extra=True,
)
