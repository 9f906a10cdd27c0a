"""Debian's Cockpit: pages in frames that share one WebSocket, a check of its Origin, a base path of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url + "system/terminal")
    terminal = page.frame_locator("iframe[name='cockpit1:localhost/system/terminal']")
    terminal.locator(".xterm-helper-textarea").focus()
    page.keyboard.type("echo $((6 * 7))1\n")
    terminal.get_by_text("421").first.wait_for()


APP = App(
    name="cockpit",
    debian=("cockpit-ws", "cockpit-bridge", "cockpit-system"),
    command=(
        "/usr/lib/cockpit/cockpit-ws",
        "--no-tls",
        "--address={bind}",
        "--port={port}",
        "--local-session=/usr/bin/cockpit-bridge",
    ),
    check=check,
    extra=True,
)
