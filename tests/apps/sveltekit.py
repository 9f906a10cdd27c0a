"""SvelteKit in development: pages by a client-side router, streamed data, a form that checks its Origin"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.apps.clientrouting import send_tea, visit_user_and_return

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    visit_user_and_return(page, app, button="pressed 0")
    send_tea(page, app)


APP = App(
    name="sveltekit",
    npm=("@sveltejs/kit@2.49.0", "svelte@5.57.3", "@sveltejs/vite-plugin-svelte@6.2.1", "vite@7.3.1"),
    sources="sveltekit",
    command=("{node}/node", "node_modules/vite/bin/vite.js", "dev", "--host={bind}", "--port={port}", "--strictPort"),
    check=check,
    extra=True,
)
