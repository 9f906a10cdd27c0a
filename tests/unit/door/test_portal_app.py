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
    paths = re.findall(r'(?:src|href)="(/-/hatchway/static/[^"]+)"', text)
    assert len(paths) >= 6
    for path in paths:
        answer = ask(served, path)
        assert answer.status == 200, path
        assert "immutable" in answer.headers["Cache-Control"]
        assert "form-action 'none'" in answer.headers["Content-Security-Policy"]
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


def test_the_first_state_says_that_the_cluster_has_not_answered_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "FIRST_ANSWERS", 0.05)
    view = FakeView()
    view.state = State("connecting")
    with portal(view) as served:
        found = json.loads(ask(served, "/-/hatchway/state").read())
    assert (found["state"]["phase"], found["items"]) == ("connecting", [])


def test_the_stream_of_events_ends_when_the_client_disconnects(served: Portal) -> None:
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


def test_a_head_request_for_the_events_ends() -> None:
    with portal(FakeView()) as served:
        answer = ask(served, "/-/hatchway/events", "HEAD")
        assert answer.status == 200
        assert answer.read() == b""


def test_the_form_for_a_port_redirects_to_its_host_name(served: Portal) -> None:
    form = "/-/hatchway/open?kind=pods&namespace=shop&name=web.v2-0&port=8123"
    answer = ask(served, form)
    port = served.door.port
    assert (answer.status, answer.headers["Location"]) == (303, f"http://8123.web--v2-0.shop.pod.localhost:{port}/")
    assert ask(served, form + "&scheme=https").headers["Location"].startswith("http://https.8123.web--v2-0.shop.pod")
    node = ask(served, "/-/hatchway/open?kind=nodes&name=node-1&port=%209100%20")
    assert node.headers["Location"] == f"http://9100.node-1.node.localhost:{port}/"


@pytest.mark.parametrize(
    "query",
    [
        "kind=pods&namespace=shop&name=web&port=",
        "kind=pods&namespace=shop&name=web&port=0",
        "kind=pods&namespace=shop&name=web&port=65536",
        "kind=pods&namespace=shop&name=web&port=%D9%A1%D9%A2",
        "kind=pods&namespace=shop&name=web&port=80.evil.example",
        "kind=pods&namespace=evil.example/&name=web&port=80",
        "kind=pods&namespace=shop&name=..&port=80",
        "kind=secrets&namespace=shop&name=web&port=80",
        "kind=pods&namespace=shop&name=web&port=80&scheme=javascript",
        "",
    ],
)
def test_invalid_ports_are_refused_without_a_redirect(served: Portal, query: str) -> None:
    answer = ask(served, "/-/hatchway/open?" + query)
    assert answer.status == 400
    assert answer.headers["Location"] is None
    assert json.loads(answer.read())["message"]


def test_pages_of_an_object(served: Portal) -> None:
    pod = next(name for space, name in served.view.pods if name.startswith("checkout-"))
    for path, said in (
        (f"pods/shop/{pod}/logs", "<select"),
        (f"pods/shop/{pod}/events", "No events"),
        (f"pods/shop/{pod}/yaml", "kind: Pod"),
        ("services/shop/checkout/yaml", "kind: Service"),
        ("nodes/node-1/events", "No events"),
        ("nodes/node-1/yaml", "kind: Node"),
    ):
        answer = ask(served, "/-/hatchway/" + path)
        text = answer.read().decode()
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store"), path
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "style=" not in text
        assert said in text
    assert ask(served, "/-/hatchway/pods/shop/gone/yaml").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "secrets/shop/password/yaml",
        "configmaps/shop/web/yaml",
        "services/shop/checkout/logs",
        "nodes/node-1/logs",
        "pods/shop/web/exec",
        "pods/web/yaml",
        "nodes/shop/node-1/yaml",
        "pods/shop/%2e%2e/yaml",
        "pods/shop/..%2f..%2fsecrets%2fpassword/yaml",
    ],
)
def test_other_paths_have_no_pages(served: Portal, path: str) -> None:
    answer = ask(served, "/-/hatchway/" + path)
    assert answer.status == 404
    assert b"kind:" not in answer.read()


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("", "/"),
        ("nodes/node-1", "/-/hatchway/nodes/node-1/events"),
        ("nodes/node-1/", "/-/hatchway/nodes/node-1/events"),
        ("services/shop/checkout/", "/-/hatchway/services/shop/checkout/events"),
        ("services/shop/checkout", "/-/hatchway/services/shop/checkout/events"),
        ("pods/shop/web-1/", "/-/hatchway/pods/shop/web-1/logs"),
    ],
)
def test_the_address_of_an_object_redirects_to_its_first_page(served: Portal, path: str, location: str) -> None:
    answer = ask(served, "/-/hatchway/" + path)
    assert (answer.status, answer.headers["Location"]) == (307, location)


def test_a_path_without_a_page_is_answered_by_404(served: Portal) -> None:
    for path in ("nonsense", "secrets/shop/", "services/", "nodes/a/b/c/d/"):
        answer = ask(served, "/-/hatchway/" + path)
        assert (answer.status, answer.headers["X-Hatchway-Problem"]) == (404, "not-found"), path


def test_other_methods_are_refused(served: Portal) -> None:
    assert ask(served, "/", "POST").status == 405
    assert ask(served, "/-/hatchway/state", "DELETE").status == 405
