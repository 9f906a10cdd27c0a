"""A WebDAV share behind HTTP basic authentication: the browser has to send a password; PROPFIND, PUT and MOVE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apps.app import App, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page

MOVE = """async mode => {
    const put = await fetch(`/from-${mode}.txt`, { method: "PUT", body: "six times seven" });
    const destination = new URL(`/to-${mode}.txt`, location.href).href;
    const move = await fetch(`/from-${mode}.txt`, { method: "MOVE", headers: { Destination: destination,
    Overwrite: "T" } });
    const found = await fetch("/", { method: "PROPFIND", headers: { Depth: "1" } });
    const got = await fetch(`/to-${mode}.txt`);
    return [put.status, move.status, found.status, (await found.text()).includes(`to-${mode}.txt`), await got.text()];
}"""


def check(page: Page, app: Running) -> None:
    response = page.goto(app.url)
    assert response is not None
    assert response.status == 200
    page.get_by_text("hello.txt").wait_for()
    put, move, found, listed, text = page.evaluate(MOVE, app.mode)
    assert (put, found, listed, text) == (201, 207, True, "six times seven")
    assert move in (201, 204)


APP = App(
    name="wsgidav",
    python=("wsgidav==4.4.0", "cheroot==11.1.2"),
    sources="wsgidav",
    command=(
        "{venv}/bin/wsgidav",
        "--host={bind}",
        "--port={port}",
        "--root={work}/share",
        "--config={work}/wsgidav.yaml",
    ),
    credentials=("ada", "lovelace"),
    fails={
        "stranger": "a kube-apiserver keeps Authorization to itself and takes seven methods: this needs port-forward"
    },
    check=check,
)
