"""Gradio: a form whose answer comes through a queue, over server-sent events; addresses built from Host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_label("name", exact=True).fill("Ada")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('textarea')].some(area => area.value === 'Hello, Ada!')"
    )
    # A streamed answer.
    page.get_by_role("button", name="Count").click()
    page.wait_for_function("() => [...document.querySelectorAll('textarea')].some(area => area.value === 'step 3')")


APP = App(
    name="gradio",
    python=("gradio==6.31.0",),
    sources="gradio",
    command=("{venv}/bin/python", "app.py"),
    env={"GRADIO_SERVER_NAME": "{bind}", "GRADIO_SERVER_PORT": "{port}", "GRADIO_ANALYTICS_ENABLED": "False"},
    check=check,
)
