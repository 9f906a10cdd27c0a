"""Vue CLI: a router that reads its path, in modules that webpack evaluates from text"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    home = app.work / "src/home.js"
    home.write_text(home.read_text().replace("Changed", "Home"))
    page.goto(app.url)
    page.get_by_role("heading", name="Home").wait_for()
    page.get_by_role("link", name="ada").click()
    page.get_by_role("heading", name="User ada").wait_for()
    assert page.url == app.at("users/ada")
    page.reload()
    page.get_by_role("heading", name="User ada").wait_for()
    page.goto(app.url)
    page.get_by_role("heading", name="Home").wait_for()
    page.wait_for_timeout(1000)
    home.write_text(home.read_text().replace("Home", "Changed"))
    page.get_by_role("heading", name="Changed").wait_for()


APP = App(
    name="vue-cli",
    npm=("@vue/cli-service@5.0.9", "vue@3.5.45", "vue-router@4.6.4", "@vue/compiler-sfc@3.5.45"),
    sources="vuecli",
    command=(
        "{node}/node",
        "node_modules/@vue/cli-service/bin/vue-cli-service.js",
        "serve",
        "--host={bind}",
        "--port={port}",
    ),
    check=check,
    extra=True,
)
