"""SvelteKit in development: pages by a router of its own, data in pieces, a form that checks its Origin"""

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

    page.goto(app.url)
    page.wait_for_load_state("networkidle")
    page.locator("input[name=what]").fill("tea")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("received tea").wait_for()


APP = App(
    name="sveltekit",
    npm=("@sveltejs/kit@2.49.0", "svelte@5.57.3", "@sveltejs/vite-plugin-svelte@6.2.1", "vite@7.3.1"),
    sources="sveltekit",
    command=("{node}/node", "node_modules/vite/bin/vite.js", "dev", "--host={bind}", "--port={port}", "--strictPort"),
    check=check,
    extra=True,
)
