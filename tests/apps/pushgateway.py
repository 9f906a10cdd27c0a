"""Debian's Pushgateway, in Go: its page shows a pushed metric, and a script deletes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.evaluate("url => fetch(url, {method: 'POST', body: 'sent 42\\n'})", app.at("metrics/job/letters"))
    page.reload()
    page.get_by_text('job="letters"').first.click()
    page.get_by_role("button", name="Delete Group").first.click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    page.get_by_role("button", name="Delete Group").first.wait_for(state="detached")


APP = App(
    name="pushgateway",
    debian=("prometheus-pushgateway",),
    command=("/usr/bin/prometheus-pushgateway", "--web.listen-address={bind}:{port}"),
    check=check,
    extra=True,
)
