"""Vite's development server: absolute module imports; an edited file changes the page without a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import TimeoutError

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    message = app.work / "src/message.js"
    message.write_text('export default "first";\n')
    page.goto(app.url)
    page.get_by_text("first", exact=True).wait_for()
    page.get_by_text("loaded when needed").wait_for()
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
    page.locator("img").evaluate("image => image.decode()")
    page.evaluate("window.kept = 'not reloaded'")
    # A change before the client's WebSocket is open has no effect. The page does not show when the WebSocket is open.
    seen = page.get_by_text("second", exact=True)
    for edit in range(40):
        message.write_text(f'export default "second"; // {edit}\n')
        try:
            seen.wait_for(timeout=500)
            break
        except TimeoutError:
            continue
    seen.wait_for()
    assert page.evaluate("window.kept") == "not reloaded"


APP = App(
    name="vite",
    npm=("vite@8.3.8",),
    sources="vite",
    command=("{node}/node", "{modules}/vite/bin/vite.js", "--host={bind}", "--port={port}", "--strictPort"),
    check=check,
)
