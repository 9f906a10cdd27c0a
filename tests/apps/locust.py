"""Locust: its page starts a load test, and shows the statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    begin, again = page.get_by_role("button", name="Start"), page.get_by_role("button", name="New")
    begin.or_(again).first.wait_for()
    if again.is_visible():
        again.click()
    page.get_by_label("Host").first.fill("http://127.0.0.1:1")
    begin.click()
    page.get_by_text("/answer").first.wait_for()
    page.get_by_role("tab", name="Charts").click()
    page.locator("canvas, svg").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    again.wait_for()


APP = App(
    name="locust",
    python=("locust==2.47.0",),
    sources="locust",
    command=("{venv}/bin/locust", "-f", "file.py", "--web-host={bind}", "--web-port={port}"),
    check=check,
    extra=True,
)
