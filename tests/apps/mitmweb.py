"""mitmweb: unknown host names are refused (because of DNS rebinding), a token, events over a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("?token=sesame"))
    page.get_by_text("Start").first.wait_for()
    page.get_by_text("Options").first.click()
    page.get_by_text("Display Event Log").first.click()
    page.get_by_text("listening at").first.wait_for()


APP = App(
    name="mitmweb",
    python=("mitmproxy==11.0.2",),
    command=(
        "{venv}/bin/mitmweb",
        "--web-host={bind}",
        "--web-port={port}",
        "--no-web-open-browser",
        "--listen-port=0",
        "--set=web_password=sesame",
        "--set=confdir={work}",
    ),
    check=check,
    extra=True,
)
