"""A chat on Tornado: cookies against forged requests, a signed log-in cookie, a WebSocket that checks its Origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_url("**/login?next=*")
    page.fill("[name=user]", "Ada")
    page.click("button")
    page.get_by_role("heading", name="Chat of Ada").wait_for()
    page.wait_for_function("() => document.title === 'open'")
    page.fill("[name=text]", "six times seven")
    page.click("button")
    page.get_by_text("Ada: six times seven").wait_for()


APP = App(
    name="tornado-chat",
    python=("tornado==6.6.1",),
    sources="tornado",
    command=("{venv}/bin/python", "chat.py", "{bind}", "{port}"),
    check=check,
)
