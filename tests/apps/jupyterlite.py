"""JupyterLite: JupyterLab without a server; a service worker stores its files"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("lab/index.html"))
    page.locator(".jp-LauncherCard").first.wait_for(timeout=60_000)
    page.wait_for_function("() => navigator.serviceWorker.ready.then(() => true)")
    page.locator(".jp-LauncherCard[data-category='Other'][title*='text' i]").first.click()
    page.get_by_text("untitled.txt").first.wait_for()
    page.locator(".cm-content").first.click()
    page.keyboard.type("written here")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1000)
    page.reload()
    page.get_by_text("untitled.txt").first.wait_for()


APP = App(
    name="jupyterlite",
    python=("jupyterlite-core==0.8.6", "jupyterlite-pyodide-kernel==0.8.6", "jupyterlab-server==2.28.1"),
    setup=(("{venv}/bin/jupyter-lite", "build", "--output-dir=site"),),
    command=("{venv}/bin/python", "-m", "http.server", "--bind={bind}", "--directory=site", "{port}"),
    check=check,
    extra=True,
)
