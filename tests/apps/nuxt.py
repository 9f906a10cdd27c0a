"""Nuxt in development: rendered by the server, then by a client-side router, data below /api"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.apps.clientrouting import visit_user_and_return

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    visit_user_and_return(page, app, button="pressed 0")


APP = App(
    name="nuxt",
    npm=("nuxt@4.5.2",),
    sources="nuxt",
    command=("{node}/node", "node_modules/nuxt/bin/nuxt.mjs", "dev", "--host={bind}", "--port={port}"),
    env={"NUXT_TELEMETRY_DISABLED": "1"},
    check=check,
    extra=True,
)
