"""The portal over HTTP, through the project's own engine."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from hatchway.door.portal import feed as feed_module
from tests.conftest import wait_for
from tests.fake_view import FakeView, Portal, State, demo_view, make_service, portal


@pytest.fixture
def served() -> Iterator[Portal]:
    with portal(demo_view()) as found:
        yield found


def ask(served: Portal, path: str, method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(served.url).port, timeout=10)
    connection.request(method, path)
    return connection.getresponse()


def test_the_page_and_its_files(served: Portal) -> None:
    page = ask(served, "/")
    text = page.read().decode()
    assert page.status == 200
    assert page.headers["Cache-Control"] == "no-store"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "{{" not in text
    paths = re.findall(r'(?:src|href)="(/-/hatchway/[^"]+)"', text)
    assert len(paths) >= 6
    for path in paths:
        answer = ask(served, path)
        assert answer.status == 200, path
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Content-Security-Policy"] == policy
        assert answer.read()
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    assert "style=" not in text
    assert ask(served, paths[0][:-8] + "x" + paths[0][-7:]).status == 404
    assert ask(served, "/-/hatchway/static/..%2f..%2fapp.py").status == 404


def test_state_as_json(served: Portal) -> None:
    answer = ask(served, "/-/hatchway/state")
    found = json.loads(answer.read())
    assert answer.headers["Content-Type"] == "application/json"
    assert found["context"] == "hatchway"
    assert {item["key"] for item in found["items"]} >= {"services/shop/cart", "nodes//node-1"}


def test_the_first_state_waits_for_the_cluster() -> None:
    view = FakeView()
    view.state = State("connecting")
    with portal(view) as served, ThreadPoolExecutor() as pool:
        asking = pool.submit(lambda: json.loads(ask(served, "/-/hatchway/state").read()))
        wait_for(lambda: served.connections == 1, seconds=10)
        served.change(lambda: view.put(make_service("shop", "web", 80)))
        assert not asking.done()
        served.change(lambda: view.become(State()))
        found = asking.result(10)
    assert found["state"]["phase"] == "live"
    assert [item["key"] for item in found["items"]] == ["services/shop/web"]


def test_the_first_state_says_that_it_is_still_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "FIRST_ANSWERS", 0.05)
    view = FakeView()
    view.state = State("connecting")
    with portal(view) as served:
        found = json.loads(ask(served, "/-/hatchway/state").read())
    assert (found["state"]["phase"], found["items"]) == ("connecting", [])


def test_events_end_when_the_client_goes(served: Portal) -> None:
    answer = ask(served, "/-/hatchway/events")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.readline() == b"event: about\n"
    while answer.readline() != b"event: synced\n":
        pass
    served.change(lambda: served.view.put(make_service("shop", "brandnew", 80)))
    while b"brandnew" not in answer.readline():
        pass
    feed_pages = served.connections
    assert feed_pages == 1
    answer.close()
    wait_for(lambda: served.connections == 0, seconds=10)


def test_a_head_of_the_events_ends() -> None:
    with portal(FakeView()) as served:
        answer = ask(served, "/-/hatchway/events", "HEAD")
        assert answer.status == 200
        assert answer.read() == b""


def test_other_methods_are_refused(served: Portal) -> None:
    assert ask(served, "/", "POST").status == 405
    assert ask(served, "/-/hatchway/state", "DELETE").status == 405
