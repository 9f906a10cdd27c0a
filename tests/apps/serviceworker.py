"""A service worker answers a fetch by itself, and serves its page while the browser is offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.wait_for_function("() => document.title === 'ready'")
    page.reload()
    page.wait_for_function("() => navigator.serviceWorker.controller !== null")
    assert page.evaluate("fetch('/answer').then(response => response.text())") == "the worker says 42"
    page.context.set_offline(True)
    page.reload()
    page.wait_for_function("() => document.title === 'ready'")
    assert page.inner_text("h1") == "An application that works without its server"
    page.context.set_offline(False)


APP = App(
    name="service-worker",
    sources="serviceworker",
    command=("python3", "-m", "http.server", "--bind={bind}", "{port}"),
    check=check,
)
