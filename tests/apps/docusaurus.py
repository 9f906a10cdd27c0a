"""Docusaurus in development: a site of Markdown whose pages are chunks of webpack, behind React Router"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url, timeout=90_000)
    page.get_by_role("link", name="The guide").click()
    page.get_by_text("written first").wait_for()
    page.reload()
    page.get_by_text("written first").wait_for()
    assert page.url == app.at("docs/first")
    page.get_by_role("link", name="Second").first.click()
    page.get_by_text("written second").wait_for()


APP = App(
    name="docusaurus",
    npm=("@docusaurus/core@3.10.2", "@docusaurus/preset-classic@3.10.2", "react@19.2.1", "react-dom@19.2.1"),
    sources="docusaurus",
    command=(
        "{node}/node",
        "node_modules/@docusaurus/core/bin/docusaurus.mjs",
        "start",
        "--no-open",
        "--host={bind}",
        "--port={port}",
    ),
    check=check,
    extra=True,
)
