"""Streamlit: widgets whose every change goes over one WebSocket, which checks its Origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("pressed 0 times").wait_for()
    page.get_by_role("button", name="Press").click()
    page.get_by_text("pressed 1 times").wait_for()
    name = page.get_by_label("Name")
    name.fill("Ada")
    name.press("Enter")
    page.get_by_text("Hello, Ada!").wait_for()
    # A file is uploaded by XMLHttpRequest and downloaded by a link.
    page.set_input_files("input[type=file]", files=[{"name": "a.csv", "mimeType": "text/csv", "buffer": b"1,2,3"}])
    page.get_by_text("5 bytes").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    assert download.value.path().read_text() == "saved by Streamlit"
    # Scripts for charts, which are loaded on demand.
    page.locator("canvas, svg.marks, .vega-embed").first.wait_for()


APP = App(
    name="streamlit",
    python=("streamlit==1.67.0",),
    sources="streamlit",
    command=(
        "{venv}/bin/streamlit",
        "run",
        "app.py",
        "--server.address={bind}",
        "--server.port={port}",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
    ),
    check=check,
)
