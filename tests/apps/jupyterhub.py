"""JupyterHub: a log-in with cookies for single paths, and a server for each user behind JupyterHub's proxy"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_label("Username").fill(f"ada-{app.mode}")
    page.get_by_label("Password").fill("lovelace")
    page.get_by_role("button", name="Sign in").click()
    page.locator(".jp-LauncherCard[data-category='Notebook']").first.click(timeout=60_000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    cell.click()
    page.keyboard.type("print('sum', 40 + 2)")
    page.keyboard.press("Shift+Enter")
    page.locator(".jp-OutputArea-output", has_text="sum 42").wait_for()
    page.goto(app.at("hub/home"))
    page.get_by_role("link", name="My Server").or_(page.get_by_text("Stop My Server")).first.wait_for()


APP = App(
    name="jupyterhub",
    python=("jupyterhub==6.1.1", "jupyterlab==4.6.6"),
    npm=("configurable-http-proxy@5.1.0",),
    sources="jupyterhub",
    command=("{venv}/bin/jupyterhub", "--ip={bind}", "--port={port}", "--config=jupyterhub_config.py"),
    check=check,
    extra=True,
)
