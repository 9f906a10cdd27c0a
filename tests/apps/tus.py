"""A resumable upload by tus: the server sends the address of an upload in Location."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    assert page.evaluate("upload('x'.repeat(300000), 100000)") == "done"
    assert (
        page.evaluate(
            "fetch(window.uploaded, { method: 'HEAD', headers: { 'Tus-Resumable': '1.0.0' } }).then(r => "
            "r.headers.get('Upload-Offset'))"
        )
        == "300000"
    )


APP = App(
    name="tus",
    npm=("@tus/server@2.4.5", "@tus/file-store@2.1.1", "tus-js-client@4.3.1"),
    sources="tus",
    command=("{node}/node", "server.mjs"),
    env={"BIND": "{bind}", "PORT": "{port}"},
    check=check,
    extra=True,
)
