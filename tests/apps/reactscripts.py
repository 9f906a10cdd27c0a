"""Create React App: React Router in modules of webpack, a service for development with its own WebSocket"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url, timeout=60_000)
    page.get_by_role("heading", name="Home").wait_for()
    page.get_by_role("link", name="ada").click()
    page.get_by_role("heading", name="User ada").wait_for()
    page.reload()
    page.get_by_role("heading", name="User ada").wait_for()


APP = App(
    name="react-scripts",
    npm=("react-scripts@5.0.1", "react@18.3.1", "react-dom@18.3.1", "react-router-dom@6.28.0"),
    sources="reactscripts",
    command=("{node}/node", "node_modules/react-scripts/bin/react-scripts.js", "start"),
    env={
        "HOST": "{bind}",
        "PORT": "{port}",
        "BROWSER": "none",
        "ESLINT_NO_DEV_ERRORS": "true",
        "DISABLE_ESLINT_PLUGIN": "true",
        "CI": "true",
    },
    check=check,
    extra=True,
)
