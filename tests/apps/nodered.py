"""Node-RED: a flow is imported and deployed; its message arrives in the debug sidebar over a WebSocket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page

FLOW = [
    {"id": "a1", "type": "inject", "z": "", "name": "tick", "props": [{"p": "payload"}], "repeat": "1", "once": True,
     "onceDelay": 0.1, "payload": "six times seven", "payloadType": "str", "x": 150, "y": 100, "wires": [["a2"]]},
    {"id": "a2", "type": "debug", "z": "", "name": "heard", "active": True, "tosidebar": True, "console": False,
     "tostatus": False, "complete": "payload", "targetType": "msg", "x": 350, "y": 100, "wires": []},
]  # fmt: skip


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.locator(".red-ui-palette-node[data-palette-type=inject]").wait_for()
    page.locator("#red-ui-workspace-chart").click(position={"x": 400, "y": 400})
    page.keyboard.press("Control+i")
    # Each mode imports nodes with other ids, because the editor asks about copies of existing nodes.
    flow = json.dumps(FLOW).replace('"a', f'"{app.mode}')
    page.locator("#red-ui-clipboard-dialog-import-text").fill(flow)
    # The dialog checks its input at a keyup event.
    page.keyboard.press("End")
    page.locator("#red-ui-clipboard-dialog-ok").click()
    page.locator("#red-ui-workspace-chart").click(position={"x": 300, "y": 300})
    page.locator("#red-ui-header-button-deploy").click()
    page.get_by_text("Successfully deployed").first.wait_for()
    page.keyboard.press("Control+g")
    page.keyboard.press("d")
    page.locator(".red-ui-debug-msg", has_text="six times seven").first.wait_for()


APP = App(
    name="node-red",
    npm=("node-red@5.0.7",),
    sources="nodered",
    command=(
        "{node}/node",
        "{modules}/node-red/red.js",
        "--userDir={work}",
        "--settings={work}/settings.js",
        "--port={port}",
    ),
    env={"BIND": "{bind}", "NODE_RED_DISABLE_TELEMETRY": "1"},
    check=check,
)
