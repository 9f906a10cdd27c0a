"""Open WebUI: a user signs up in a single page application, which gets updates by socket.io"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    start = page.get_by_role("button", name="Get started")
    sign_in = page.get_by_role("button", name="Sign in", exact=True)
    start.or_(sign_in).first.wait_for()
    if start.is_visible():
        start.click()
        page.get_by_placeholder("Enter Your Full Name").fill("Ada")
    page.get_by_placeholder("Enter Your Email").fill("ada@example.com")
    page.get_by_placeholder("Enter Your Password").first.fill("lovelace1815")
    page.locator("button[type=submit]").click()
    page.locator("#chat-input").wait_for()
    page.reload()
    page.locator("#chat-input").wait_for()


APP = App(
    name="open-webui",
    python=("open-webui==0.12.4",),
    command=("{venv}/bin/open-webui", "serve", "--host={bind}", "--port={port}"),
    env={
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "DATA_DIR": "{work}/data",
        "WEBUI_SECRET_KEY": "x",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_OPENAI_API": "false",
        "SCARF_NO_ANALYTICS": "true",
    },
    check=check,
    extra=True,
)
