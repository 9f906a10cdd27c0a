"""Rsbuild: modules of Rspack; a changed module arrives over a WebSocket and replaces the old module"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    message = app.work / "src/message.js"
    message.write_text('export const message = "first";\n')
    page.goto(app.url)
    page.get_by_text("first", exact=True).wait_for()
    page.evaluate("window.kept = 'not reloaded'")
    page.wait_for_timeout(1000)
    message.write_text('export const message = "second";\n')
    page.get_by_text("second", exact=True).wait_for()
    assert page.evaluate("window.kept") == "not reloaded"


APP = App(
    name="rsbuild",
    npm=("@rsbuild/core@2.3.2",),
    sources="rsbuild",
    command=(
        "{node}/node",
        "node_modules/@rsbuild/core/bin/rsbuild.js",
        "dev",
        "--host={bind}",
        "--port={port}",
    ),
    check=check,
    extra=True,
)
