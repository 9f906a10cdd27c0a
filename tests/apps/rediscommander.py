"""Redis Commander: a tree of keys that is fetched, and a value that is changed and saved"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.conftest import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("engine").first.wait_for()
    page.get_by_text("engine").first.click()
    value = page.locator("textarea:visible").first
    value.fill(f"analytical {app.mode}")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("local (localhost").first.click()
    page.get_by_text("engine").first.click()
    wait_for(lambda: page.locator("textarea:visible").first.input_value() == f"analytical {app.mode}")


_SCRIPT = """
redis-server --port 6390 --dir {work} --save '' >/dev/null &
until redis-cli -p 6390 set engine analytical; do sleep 0.1; done
exec {node}/node node_modules/redis-commander/bin/redis-commander.js --address {bind} --port {port} --redis-port 6390
"""
APP = App(
    name="redis-commander",
    npm=("redis-commander@0.9.0",),
    debian=("redis-server",),
    command=("/bin/sh", "-c", _SCRIPT),
    check=check,
    extra=True,
)
