"""webpack-dev-server: a changed file arrives by its WebSocket; it refuses hosts that it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    message = app.work / "src/message.js"
    message.write_text('export default "first";\n')
    page.goto(app.url)
    page.get_by_text("first", exact=True).wait_for()
    page.get_by_text("loaded when needed").wait_for()
    page.evaluate("window.kept = 'not reloaded'")
    page.wait_for_timeout(1000)
    message.write_text('export default "second";\n')
    page.get_by_text("second", exact=True).wait_for()
    assert page.evaluate("window.kept") == "not reloaded"


APP = App(
    name="webpack-dev-server",
    npm=("webpack@5.103.0", "webpack-cli@6.0.1", "webpack-dev-server@5.2.2"),
    sources="webpack",
    command=("{node}/node", "node_modules/webpack-cli/bin/cli.js", "serve", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
