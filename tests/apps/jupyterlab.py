"""JupyterLab: input in a terminal, a cell that a notebook's kernel runs; checks of Origin, XSRF tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.conftest import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("lab?reset"))
    page.locator(".jp-LauncherCard[data-category='Other'][title*='terminal' i]").click()
    page.locator(".jp-Terminal .xterm").click()
    answer = app.work / f"answer-{app.mode}.txt"
    # The prompt appears when the shell's WebSocket is open; input before that is lost.
    page.wait_for_function("() => document.querySelector('.jp-Terminal .xterm-rows, .jp-Terminal canvas') !== null")

    def typed() -> bool:
        page.keyboard.type(f"echo $((6*7)) > {answer}\n")
        page.wait_for_timeout(500)
        return answer.exists() and answer.read_text() == "42\n"

    wait_for(typed, seconds=20)

    page.locator(".lm-TabBar-addButton:visible").first.click()
    page.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    cell.click()
    page.keyboard.type("print('sum', 40 + 2)")
    page.keyboard.press("Shift+Enter")
    page.locator(".jp-OutputArea-output", has_text="sum 42").wait_for()


APP = App(
    name="jupyterlab",
    python=("jupyterlab==4.6.6",),
    command=(
        "{venv}/bin/jupyter-lab",
        "--no-browser",
        "--allow-root",
        "--ip={bind}",
        "--port={port}",
        "--IdentityProvider.token=",
        "--ServerApp.root_dir={work}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ),
    check=check,
)
