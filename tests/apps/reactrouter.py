"""React Router as a framework (Remix): pages and their data by a client-side router, a form"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running
from tests.apps.clientrouting import send_tea, visit_user_and_return

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    visit_user_and_return(page, app)
    send_tea(page, app)


APP = App(
    name="react-router",
    npm=(
        "@react-router/dev@8.4.0",
        "@react-router/node@8.4.0",
        "react-router@8.4.0",
        "react@19.2.7",
        "react-dom@19.2.7",
        "isbot@5.2.3",
        "vite@7.3.1",
    ),
    sources="reactrouter",
    command=("{node}/node", "node_modules/@react-router/dev/bin.cjs", "dev", "--host={bind}", "--port={port}"),
    check=check,
    extra=True,
)
