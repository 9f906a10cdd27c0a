"""MLflow: unknown hosts and foreign origins are refused; its page creates an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("#/experiments"))
    page.get_by_role("button", name="Create").first.click()
    name = f"by-{app.mode}"
    page.get_by_role("dialog").get_by_role("textbox").first.fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    page.get_by_text(name).first.wait_for()


APP = App(
    name="mlflow",
    python=("mlflow==3.17.2",),
    command=("{venv}/bin/mlflow", "server", "--host={bind}", "--port={port}", "--workers=1"),
    env={"MLFLOW_DISABLE_TELEMETRY": "true"},
    check=check,
    extra=True,
)
