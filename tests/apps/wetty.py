"""WeTTY: input in a shell in the browser, over socket.io below a path of its own"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.conftest import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    answer = app.work / f"answer-{app.mode}.txt"
    page.locator(".xterm-screen").wait_for()

    def typed() -> bool:
        page.locator(".xterm-screen").click()
        page.keyboard.type(f"echo $((6*7)) > {answer}\n")
        page.wait_for_timeout(500)
        return answer.exists() and answer.read_text() == "42\n"

    wait_for(typed, seconds=20)


APP = App(
    name="wetty",
    npm=("wetty@3.2.0",),
    command=("{node}/node", "node_modules/wetty/build/main.js", "--host={bind}", "--port={port}", "--command=/bin/sh"),
    check=check,
    extra=True,
)
