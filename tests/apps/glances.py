"""Glances: measurements of the machine, which its page requests every few seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("CPU", exact=True).first.wait_for()
    page.get_by_text("TASKS").first.wait_for()


APP = App(
    name="glances",
    python=("glances[web]==4.5.8",),
    command=("{venv}/bin/glances", "--webserver", "--bind={bind}", "--port={port}", "--disable-autodiscover"),
    check=check,
    extra=True,
)
