"""React Router as a framework (Remix): pages and their data by a router of its own, a form"""

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
    page.get_by_role("heading", name="Home").wait_for()
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
    name="react-router",
    npm=(
        "@react-router/dev@8.4.0",
        "@react-router/node@8.4.0",
        "react-router@8.4.0",
        "react@19.2.7",
        "react-dom@19.2.7",
        "isbot@5.2.3",
        "vite@7.3.1",
    ),
    sources="reactrouter",
    command=("{node}/node", "node_modules/@react-router/dev/bin.cjs", "dev", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
