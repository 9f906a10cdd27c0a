"""Verdaccio: builds its own addresses from Host; a log-in, which gives a token to scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_text("No Package Published Yet").wait_for()
    page.get_by_role("button", name="Login").click()
    page.get_by_role("textbox", name="Username").fill("ada")
    page.locator("input[type=password]").fill("lovelace")
    page.get_by_role("dialog").get_by_role("button", name="Login").click()
    page.locator("#header--button-account").or_(page.get_by_role("button", name="account")).first.wait_for()


APP = App(
    name="verdaccio",
    npm=("verdaccio@6.2.5",),
    sources="verdaccio",
    command=("{node}/node", "{modules}/verdaccio/bin/verdaccio", "--config=config.yaml", "--listen={bind}:{port}"),
    check=check,
    extra=True,
)
