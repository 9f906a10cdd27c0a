"""Supervisor: links start actions; the answers are redirects to addresses built from Host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("link", name="Stop", exact=True).first.click()
    page.get_by_text("stopped").first.wait_for()
    page.get_by_role("link", name="Start", exact=True).first.click()
    page.get_by_text("running").first.wait_for()


APP = App(
    name="supervisor",
    python=("supervisor==4.3.0", "setuptools<81"),
    sources="supervisor",
    command=("{venv}/bin/supervisord", "--nodaemon", "--configuration=supervisord.conf"),
    env={"BIND": "{bind}", "PORT": "{port}"},
    check=check,
    extra=True,
)
