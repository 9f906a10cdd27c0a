"""Astro's development server: Vite behind a framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    source = app.work / "src/pages/index.astro"
    source.write_text(source.read_text().replace("second", "first"))
    page.goto(app.url)
    page.get_by_text("first", exact=True).wait_for()
    page.get_by_text("run by a script").wait_for()
    page.wait_for_timeout(1000)
    source.write_text(source.read_text().replace("first", "second"))
    page.get_by_text("second", exact=True).wait_for()


APP = App(
    name="astro",
    npm=("astro@5.16.4",),
    sources="astro",
    command=("{node}/node", "{modules}/astro/astro.js", "dev", "--host={bind}", "--port={port}"),
    env={"ASTRO_TELEMETRY_DISABLED": "1"},
    check=check,
    extra=True,
)
