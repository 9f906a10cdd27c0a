"""The classic notebook: its kernel runs a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("tree"))
    page.locator("#new-dropdown-button, #new-buttons button").first.click()
    with page.expect_popup() as popup:
        page.locator("#kernel-python3 a").click()
    notebook = popup.value
    notebook.locator(".kernel_idle_icon").wait_for()
    notebook.locator(".CodeMirror").first.click()
    notebook.keyboard.type("print('sum', 40 + 2)")
    notebook.keyboard.press("Shift+Enter")
    notebook.locator(".output_area", has_text="sum 42").first.wait_for()


APP = App(
    name="nbclassic",
    python=("nbclassic==1.3.3",),
    command=(
        "{venv}/bin/jupyter-nbclassic",
        "--no-browser",
        "--allow-root",
        "--ip={bind}",
        "--port={port}",
        "--IdentityProvider.token=",
        "--ServerApp.root_dir={work}",
    ),
    check=check,
    extra=True,
)
