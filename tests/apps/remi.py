"""REMI: a page behind a password; events go over a WebSocket, which the page opens at its own address"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    for count in (1, 2):
        page.get_by_role("button", name="press").click()
        page.get_by_text(f"pressed {count} times").wait_for()


APP = App(
    name="remi",
    # remi imports pkg_resources.
    python=("remi==2022.7.27", "setuptools==79.0.1"),
    sources="remi",
    command=("{venv}/bin/python", "app.py", "{bind}", "{port}"),
    credentials=("ada", "lovelace"),
    fails={"stranger": "a kube-apiserver keeps Authorization to itself: this needs port-forward"},
    check=check,
    extra=True,
)
