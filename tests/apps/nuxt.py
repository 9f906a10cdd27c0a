"""Nuxt in development: rendered by the server, taken over by a router of its own, data below /api"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("heading", name="Home").wait_for()
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="pressed 0").click()
    page.get_by_role("button", name="pressed 1").wait_for()
    page.get_by_role("link", name="ada").click()
    page.get_by_role("heading", name="User ada").wait_for()
    assert page.url == app.at("users/ada")
    page.go_back()
    page.get_by_role("button", name="pressed 0").wait_for()
    page.go_forward()
    page.get_by_role("heading", name="User ada").wait_for()
    page.reload()
    page.get_by_role("heading", name="User ada").wait_for()


APP = App(
    name="nuxt",
    npm=("nuxt@4.5.2",),
    sources="nuxt",
    command=("{node}/node", "node_modules/nuxt/bin/nuxt.mjs", "dev", "--host={bind}", "--port={port}"),
    env={"NUXT_TELEMETRY_DISABLED": "1"},
    check=check,
    extra=True,
)
