"""GraphQL Yoga: a query and a subscription, over server-sent events, in GraphiQL"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.at("graphql?query=subscription%20%7B%20count%20%7D"))
    page.get_by_role("button", name="Execute query").click()
    page.locator(".result-window", has_text="3").wait_for()


APP = App(
    name="graphql-yoga",
    npm=("graphql-yoga@5.24.1", "graphql@16.12.0", "@graphql-yoga/render-graphiql@5.24.1"),
    sources="yoga",
    command=("{node}/node", "server.js", "{bind}", "{port}"),
    check=check,
    extra=True,
)
