"""TensorBoard: curves drawn from data that its scripts fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("loss").first.wait_for()
    page.locator("line-chart svg, line-chart canvas").first.wait_for()


APP = App(
    name="tensorboard",
    python=("tensorboard==2.21.0", "setuptools<81"),
    sources="tensorboard",
    setup=(("{venv}/bin/python", "make.py"),),
    command=("{venv}/bin/tensorboard", "--logdir={work}/logs", "--host={bind}", "--port={port}", "--load_fast=false"),
    check=check,
    extra=True,
)
