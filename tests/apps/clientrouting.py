"""Steps in a browser that applications with a client-side router share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def visit_user_and_return(page: Page, app: Running, *, button: str = "") -> None:
    """Press the button on the first page, follow the link to /users/ada, go back and forward, and reload.

    button: the button's expected text after going back, which shows whether the page kept its state; "": no check.
    """
    page.goto(app.url)
    page.get_by_role("heading", name="Home").wait_for()
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="pressed 0").click()
    page.get_by_role("button", name="pressed 1").wait_for()
    page.get_by_role("link", name="ada").click()
    page.get_by_role("heading", name="User ada").wait_for()
    assert page.url == app.at("users/ada")
    page.go_back()
    page.get_by_role("heading", name="Home").wait_for()
    if button:
        page.get_by_role("button", name=button).wait_for()
    page.go_forward()
    page.get_by_role("heading", name="User ada").wait_for()
    page.reload()
    page.get_by_role("heading", name="User ada").wait_for()


def send_tea(page: Page, app: Running) -> None:
    """Submit the form on the first page, and wait for the server's answer."""
    page.goto(app.url)
    page.wait_for_load_state("networkidle")
    page.locator("input[name=what]").fill("tea")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("received tea").wait_for()
