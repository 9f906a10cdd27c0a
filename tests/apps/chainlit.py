"""Chainlit: builds its addresses from Host; a conversation over socket.io."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("#chat-input").click()
    page.keyboard.type("six times seven")
    page.wait_for_timeout(500)
    page.locator("#chat-submit").click()
    page.get_by_text("You said: six times seven").wait_for()


APP = App(
    name="chainlit",
    python=("chainlit==2.9.4",),
    sources="chainlit",
    command=("{venv}/bin/chainlit", "run", "chat.py", "--headless", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
