"""Solara: components in Python over a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    # The button is rendered by the server first, and again by scripts, so wait for the scripts.
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="pressed 0 times").click()
    page.get_by_role("button", name="pressed 1 times").wait_for()


APP = App(
    name="solara",
    python=("solara[assets]==1.57.3", "starlette<0.50"),
    sources="solara",
    command=("{venv}/bin/solara", "run", "counter.py", "--host={bind}", "--port={port}", "--no-open", "--production"),
    env={"SOLARA_TELEMETRY_MIXPANEL_ENABLE": "False"},
    check=check,
    extra=True,
)
