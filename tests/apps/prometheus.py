"""Debian's Prometheus: a query shown as a table and as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_url("**/graph*")
    page.locator("textarea[name=expr]").fill("vector(6 * 7)")
    page.get_by_role("button", name="Execute").click()
    page.locator("table td", has_text="42").first.wait_for()
    page.locator(".nav-tabs a", has_text="Graph").click()
    # A flat line has no height, so Playwright regards it as hidden.
    page.locator(".rickshaw_graph svg path").first.wait_for(state="attached")
    page.get_by_role("button", name="Status").or_(page.get_by_role("link", name="Status")).first.click()
    page.get_by_role("link", name="Targets").click()
    page.get_by_role("heading", name="Targets").wait_for()


APP = App(
    name="prometheus",
    debian=("prometheus",),
    sources="prometheus",
    command=(
        "/usr/bin/prometheus",
        "--config.file={work}/prometheus.yml",
        "--storage.tsdb.path={work}/data",
        "--web.listen-address={bind}:{port}",
    ),
    check=check,
)
