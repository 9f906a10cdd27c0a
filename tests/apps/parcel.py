"""Parcel: a worker made from a module, and a change that comes by its own WebSocket"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    later = app.work / "src/later.js"
    later.write_text('export default "first";\n')
    page.goto(app.url)
    page.get_by_text("first", exact=True).wait_for()
    page.get_by_text("doubled 40").wait_for()
    page.wait_for_timeout(1000)
    later.write_text('export default "second";\n')
    page.get_by_text("second", exact=True).wait_for()


APP = App(
    name="parcel",
    npm=("parcel@2.16.4",),
    sources="parcel",
    command=("{node}/node", "node_modules/parcel/lib/bin.js", "serve", "index.html", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
