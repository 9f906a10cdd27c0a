"""Shell In A Box: a terminal, over long requests to its page's own address"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.conftest import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    answer = app.work / f"answer-{app.mode}.txt"
    page.locator("#vt100").wait_for()

    def typed() -> bool:
        page.locator("#vt100").click()
        page.keyboard.type(f"echo $((6*7)) > {answer}\n")
        page.wait_for_timeout(500)
        return answer.exists() and answer.read_text() == "42\n"

    wait_for(typed, seconds=20)


APP = App(
    name="shellinabox",
    debian=("shellinabox",),
    command=(
        "/usr/bin/shellinaboxd",
        "--disable-ssl",
        "--no-beep",
        "--port={port}",
        "--user=0",
        "--group=0",
        "--service=/:0:0:{work}:/bin/sh",
    ),
    check=check,
    extra=True,
)
