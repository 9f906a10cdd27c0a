"""Dask's dashboard: Bokeh inside the dashboard's own router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("status"))
    page.locator("canvas").first.wait_for()
    page.get_by_role("link", name="Workers").first.click()
    page.wait_for_url("**/workers")
    page.locator("canvas").first.wait_for()


APP = App(
    name="dask",
    python=("distributed==2026.8.0", "bokeh==3.9.2"),
    command=("{venv}/bin/dask", "scheduler", "--dashboard-address={bind}:{port}", "--port=0"),
    check=check,
    extra=True,
)
