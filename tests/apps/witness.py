"""Record the messages and requests of a page, for the report of a failure."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page, Request, Response, WebSocket


class Witness:
    """Records a page from the object's creation; keeps the last lines."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._lines: list[str] = []
        page.on("response", self._response)
        page.on("requestfailed", self._failed)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("websocket", self._websocket)

    def _note(self, line: str) -> None:
        if line[:400] not in self._lines:
            self._lines.append(line[:400])

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"{response.status} {response.request.method} {response.url}")

    def _failed(self, request: Request) -> None:
        self._note(f"{request.failure} {request.method} {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._note(f"console: {message.text}")

    def _websocket(self, websocket: WebSocket) -> None:
        self._note(f"websocket opens: {websocket.url}")
        websocket.on("socketerror", lambda error: self._note(f"websocket {websocket.url}: {error}"))

    def report(self) -> str:
        return "\n".join(self._lines[-40:])

    def picture(self, path: Path) -> None:
        from playwright.sync_api import Error

        path.parent.mkdir(parents=True, exist_ok=True)
        # There is no screenshot of a page that hangs, but the report is still written.
        with contextlib.suppress(Error):
            self._page.screenshot(path=path, timeout=5_000)
