"""code-server: VS Code in a browser: web workers, service worker, WebSockets, web views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.conftest import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    (app.work / "hello.txt").write_text("six times seven\n")
    page.goto(app.url + f"?folder={app.work}")
    page.get_by_role("treeitem", name="hello.txt").first.dblclick()
    page.locator(".view-line", has_text="six").first.wait_for()
    page.keyboard.press("Control+`")
    page.locator(".terminal-wrapper .xterm").first.click()
    answer = app.work / f"answer-{app.mode}.txt"

    def typed() -> bool:
        page.keyboard.type(f"echo $((6*7)) > {answer}\n")
        page.wait_for_timeout(1000)
        return answer.exists() and answer.read_text() == "42\n"

    wait_for(typed, seconds=30)


APP = App(
    name="code-server",
    npm=("code-server@4.106.3",),
    command=(
        "{node}/node",
        "{modules}/code-server/out/node/entry.js",
        "--auth=none",
        "--disable-telemetry",
        "--disable-update-check",
        "--disable-workspace-trust",
        "--bind-addr={bind}:{port}",
        "--user-data-dir={work}/.code",
    ),
    check=check,
    extra=True,
)
