"""Debian's noVNC: modules without a bundler, and a screen over a WebSocket of binary messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("vnc.html"))
    page.locator("#noVNC_connect_button").click()
    page.wait_for_function("() => document.documentElement.classList.contains('noVNC_connected')")
    page.locator("canvas").first.wait_for()


APP = App(
    name="novnc",
    debian=("novnc", "websockify", "tigervnc-standalone-server"),
    sources="novnc",
    command=("/bin/sh", "start", "{bind}:{port}"),
    check=check,
    extra=True,
)
