"""TiddlyWiki: a note is written, saved to the server by PUT, and is there after a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page


def check(page: Page, app: Running) -> None:
    page.goto(app.url)
    page.get_by_role("button", name="new tiddler").or_(page.locator("[aria-label='new tiddler']")).first.click()
    title = f"Note by {app.mode}"
    page.frame_locator("iframe.tc-dummy, iframe").first.locator("input, textarea").first.wait_for(state="attached")
    page.locator(".tc-titlebar input.tc-edit-field, .tc-edit-tags input").first.wait_for(state="attached")
    page.evaluate(
        """title => $tw.wiki.addTiddler(new $tw.Tiddler({ title, text: "six times seven", modified: new Date() }))""",
        title,
    )
    page.wait_for_function("() => !$tw.syncer.isDirty()")
    page.goto(app.url + "status")
    page.goto(app.url)
    page.wait_for_function("title => $tw.wiki.getTiddlerText(title) === 'six times seven'", arg=title)


APP = App(
    name="tiddlywiki",
    npm=("tiddlywiki@5.3.8",),
    setup=(("{node}/node", "{modules}/tiddlywiki/tiddlywiki.js", "wiki", "--init", "server"),),
    command=("{node}/node", "{modules}/tiddlywiki/tiddlywiki.js", "wiki", "--listen", "host={bind}", "port={port}"),
    check=check,
    extra=True,
)
