"""Angular in development: a base address in the page, a router that reads this address, chunks by import()"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.apps.clientrouting import visit_user_and_return

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    visit_user_and_return(page, app, button="pressed 1")


APP = App(
    name="angular",
    npm=(
        "@angular/cli@22.2.7",
        "@angular/build@22.2.7",
        "@angular/core@22.2.6",
        "@angular/common@22.2.6",
        "@angular/compiler@22.2.6",
        "@angular/compiler-cli@22.2.6",
        "@angular/platform-browser@22.2.6",
        "@angular/router@22.2.6",
        "rxjs@7.8.2",
        "typescript@6.0.3",
        "tslib@2.9.1",
    ),
    sources="angular",
    command=("{node}/node", "node_modules/@angular/cli/bin/ng.js", "serve", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
