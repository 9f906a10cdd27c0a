"""MailDev: its page requests the mails and its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("Now receiving all emails").or_(page.get_by_text("Inbox")).first.wait_for()


APP = App(
    name="maildev",
    npm=("maildev@2.2.1",),
    command=("{node}/node", "{modules}/maildev/bin/maildev", "--ip={bind}", "--web={port}", "--smtp=0"),
    check=check,
    extra=True,
)
