"""viser: a scene in WebGL; page and WebSocket share one path, messages are binary"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("canvas").first.wait_for()
    # The scene is redrawn all the time, so Playwright may never regard the button as stable.
    page.get_by_role("button", name="Compute").dispatch_event("click", timeout=60_000)
    shows_answer = "[...document.querySelectorAll('input, textarea')].some(one => one.value === '42')"
    page.wait_for_function(shows_answer, timeout=60_000)


APP = App(
    name="viser",
    python=("viser==1.1.1",),
    sources="viser",
    command=("{venv}/bin/python", "app.py", "{bind}", "{port}"),
    check=check,
    extra=True,
)
