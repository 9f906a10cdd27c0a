"""A chat on socket.io: by its absolute default path, first by polling, then by WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    polls = []
    page.on("request", lambda request: polls.append(request.url) if "transport=polling" in request.url else None)
    page.goto(app.url)
    page.wait_for_function("() => document.title === 'connected'")
    assert polls
    page.wait_for_function("() => socket.io.engine.transport.name === 'websocket'")
    page.fill("input", "six times seven")
    page.click("button")
    page.get_by_text("SIX TIMES SEVEN").wait_for()


APP = App(
    name="socketio",
    npm=("socket.io@4.8.4",),
    sources="socketio",
    command=("{node}/node", "server.js"),
    env={"BIND": "{bind}", "PORT": "{port}"},
    check=check,
)
