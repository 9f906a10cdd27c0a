"""Debian's Syncthing: refuses hosts that it does not know while it listens on loopback; CSRF tokens in headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("This Device").first.wait_for()
    page.get_by_text("Uptime").first.wait_for(state="attached")
    page.get_by_text("v1.").first.wait_for(state="attached")


APP = App(
    name="syncthing",
    debian=("syncthing",),
    command=(
        "/usr/bin/syncthing",
        "serve",
        "--no-browser",
        "--no-restart",
        "--no-default-folder",
        "--home={work}/config",
        "--gui-address=http://{bind}:{port}",
    ),
    env={"STNOUPGRADE": "1"},
    check=check,
    extra=True,
)
