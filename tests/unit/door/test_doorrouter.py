"""The door's answers at its own origin: accepted requests, and the form of errors for refused requests."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatchway.door.address import DoorAddress
from hatchway.door.apisite import ApiSite
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.dooroptions import default_filter
from hatchway.door.doorrouter import DoorRouter, OwnApplications
from hatchway.door.guard import Sender
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.proxy.routing import Peer, RequestHead, Respond, get_header

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
FOREIGN = {"Origin": "http://evil.example"}
SAME_SITE = {"Sec-Fetch-Site": "same-site"}


def make_router(address: DoorAddress) -> DoorRouter:
    found = SimpleNamespace(trouble=None, context="test", label='context "test"', fresh_until=math.inf)
    connection = cast(Connection, found)
    diagnosis = Diagnosis(connection, ObjectLookup(connection), address)
    return DoorRouter(
        address=address,
        filter=default_filter(),
        api=ApiSite(connection, diagnosis, prefix="/", append_server_path=False),
        make_site=cast(Any, None),
        ingress=cast(Any, None),
        diagnosis=diagnosis,
        applications=OwnApplications(cast(Any, None), cast(Any, None), None, b"/static/"),
    )


def route(path: str, headers: dict[str, str], method: str = "GET", host: str = "localhost:8001") -> Respond:
    fields = [(name.encode(), value.encode()) for name, value in {"Host": host, **headers}.items()]
    peer = Peer(("127.0.0.1", 1), "http")
    head = RequestHead(method, path.encode(), path.encode(), None, fields, "1.1", peer)
    answer = make_router(DoorAddress(port=8001)).route(head)
    assert isinstance(answer, Respond)
    return answer


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (FOREIGN, "a page of http://evil.example requested the API of your cluster"),
        (SAME_SITE, "a page under another name of this door requested the API of your cluster"),
        ({"Origin": "null"}, "a page that hides its address requested the API of your cluster"),
    ],
)
def test_requests_from_other_origins_are_refused_with_a_reason(headers: dict[str, str], words: str) -> None:
    status = route("/api/v1/secrets", headers)
    said = json.loads(status.body)
    assert (status.status, said["kind"], said["reason"], said["message"]) == (
        403,
        "Status",
        "Forbidden",
        f"refused: {words}",
    )
    assert "address bar" in said["details"]["causes"][0]["message"]
    page = route("/api/v1/secrets", {**headers, "Accept": "text/html"})
    assert page.status == 403
    assert (get_header(page.headers, b"content-type") or b"").startswith(b"text/html")
    assert words in page.body.decode() and "address bar" in page.body.decode()


@pytest.mark.parametrize(
    ("path", "method", "host", "hint"),
    [
        ("/api/v1/namespaces/x/pods/y/exec", "GET", "localhost:8001", "hatchway proxy --help"),
        ("/version", "GET", "evil.example", "http://localhost:8001/"),
    ],
)
def test_refusals_by_kubectls_filter_are_pages_only_for_browsers(path: str, method: str, host: str, hint: str) -> None:
    tool = route(path, {}, method, host)
    assert (tool.status, tool.body) == (403, b"Forbidden\n"), "as `kubectl proxy` answers"
    page = route(path, NAVIGATION, method, host)
    assert page.status == 403 and hint in page.body.decode()


def test_requests_of_scripts_for_the_proxy_verb_get_a_hint_to_the_host_name() -> None:
    path = "/api/v1/namespaces/shop/services/web:80/%70roxy/"
    program = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    said = json.loads(route(path, program).body)
    assert said["kind"] == "Status" and "own host name" in said["details"]["causes"][0]["message"]
    assert "own host name" in route(path, NAVIGATION).body.decode()


def test_the_doors_address_is_the_one_that_browsers_use() -> None:
    """The door may be behind a proxy with TLS, another domain and another port."""
    address = DoorAddress("dev.example.com", "https", 443)
    assert address.portal_url == "https://dev.example.com/"
    assert address.prefix_url == "https://prefix.dev.example.com/"
    head = RequestHead("GET", b"/", b"/", None, [(b"Origin", b"https://dev.example.com")], "1.1", Peer(None, "http"))
    assert not Sender.of(head).is_foreign(head, address.origin(b"dev.example.com"))
    assert Sender.of(head).is_foreign(head, DoorAddress("dev.example.com").origin(b"dev.example.com"))
