"""Optuna dashboard: a single page with a client-side router, and an API below /api."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_url("**/dashboard*")
    page.get_by_text("first-study").first.click()
    page.wait_for_url("**/dashboard/studies/1*")
    page.get_by_text("Hyperparameter").first.wait_for()
    page.reload()
    page.get_by_text("Hyperparameter").first.wait_for()


APP = App(
    name="optuna-dashboard",
    python=("optuna-dashboard==0.21.0",),
    setup=(("{venv}/bin/optuna", "create-study", "--storage=sqlite:///studies.db", "--study-name=first-study"),),
    command=("{venv}/bin/optuna-dashboard", "sqlite:///studies.db", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
