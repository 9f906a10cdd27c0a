"""Calibre-Web: a set-up behind a log-in with a CSRF token, a book that is found, marked as read, and downloaded"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("#username").fill("admin")
    page.locator("#password").fill("admin123")
    page.locator("#submit, [name=submit]").first.click()
    page.locator("#logout, #config_calibre_dir").first.wait_for(state="attached")
    if page.locator("#config_calibre_dir").count():
        # The set-up page appears only in the first mode that is tested.
        page.locator("#config_calibre_dir").fill(str(app.work / "library"))
        page.locator("#db_submit, [name=submit]").first.click()
        page.get_by_text("settings updated").first.wait_for()
    page.goto(app.url)
    page.locator("#query").fill("letters")
    page.locator("#query_submit").click()
    page.locator(".book a").first.click()
    page.locator("#title, h2").get_by_text("letters").first.wait_for()
    # A script sends the state of this checkbox.
    before = page.locator("#have_read_cb").is_checked()
    with page.expect_response(lambda response: "toggleread" in response.url) as toggled:
        page.locator("#have_read_form label, #have_read_cb").first.click()
    assert toggled.value.ok
    page.reload()
    page.locator(".book a").first.click()
    page.locator("#have_read_cb").wait_for(state="attached")
    assert page.locator("#have_read_cb").is_checked() != before
    link = page.locator("a[href*='/download/1/']").first
    assert "forty-two" in link.evaluate("link => fetch(link.href).then(answer => answer.text())")


APP = App(
    name="calibreweb",
    python=("calibreweb==0.6.27",),
    debian=("calibre-bin", "calibre"),
    sources="calibre",
    setup=(("/usr/bin/calibredb", "add", "--library-path={work}/library", "letters.txt"),),
    command=("{venv}/bin/cps", "-p", "{work}/app.db", "-i", "{bind}"),
    env={"CALIBRE_PORT": "{port}"},
    check=check,
    extra=True,
)
