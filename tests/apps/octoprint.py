"""OctoPrint: a log-in by script, a simulated printer, a command typed into its terminal, answered by SockJS"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator("#login-user").fill("ada")
    page.locator("#login-password").fill("lovelace")
    page.locator("#login-button").click()
    page.locator("#connection_ports option", has_text="VIRTUAL").first.wait_for(state="attached")
    button = page.locator("#printer_connect")
    if button.inner_text().strip() == "Connect":
        button.click()
    page.locator("#term_link a, #term_link").first.click()
    # The printer's output comes only over the socket.
    page.locator("#terminal-command").fill("M115")
    page.locator("#terminal-send").click()
    page.locator("#terminal-output, #terminal-output-lowfi").get_by_text("FIRMWARE_NAME").first.wait_for()


APP = App(
    name="octoprint",
    python=("octoprint==1.11.8",),
    sources="octoprint",
    setup=(
        ("{venv}/bin/octoprint", "--basedir={work}/octo", "user", "add", "ada", "--password", "lovelace", "--admin"),
    ),
    command=(
        "{venv}/bin/octoprint",
        "serve",
        "--iknowwhatimdoing",
        "--host={bind}",
        "--port={port}",
        "--basedir={work}/octo",
    ),
    check=check,
    extra=True,
)
