"""The detection of requests from pages of another origin."""

from __future__ import annotations

import pytest

from hatchway.door.guard import Sender
from hatchway.proxy.routing import Peer, RequestHead

OWN = b"http://web.default.svc.localhost:8001"
FRIENDLY: list[tuple[str, dict[str, str], bool]] = [
    ("GET", {}, False),  # tools
    ("DELETE", {}, False),
    ("POST", {"Origin": OWN.decode()}, False),
    ("POST", {"Origin": OWN.decode().upper()}, False),
    ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
    ("POST", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": OWN.decode()}, False),
    ("POST", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Origin": "null"}, False),
    # a link on another page
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
    ("HEAD", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
    ("GET", {"Origin": OWN.decode(), "Upgrade": "websocket"}, True),
]
FOREIGN: list[tuple[str, dict[str, str], bool]] = [
    ("GET", {"Origin": "http://evil.example"}, False),
    ("GET", {"Origin": "null"}, False),
    ("GET", {"Origin": "http://other.default.svc.localhost:8001"}, False),
    ("GET", {"Origin": "http://web.default.svc.localhost:9999"}, False),
    ("GET", {"Origin": "https://web.default.svc.localhost:8001"}, False),
    ("GET", {"Origin": "http://evil.example"}, True),
    ("GET", {"Sec-Fetch-Site": "none", "Origin": "http://evil.example"}, True),
    ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, False),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, False),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "embed"}, False),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket"}, True),
]


def asked(method: str, fields: dict[str, str], upgrade: bool) -> RequestHead:
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    return RequestHead(method, b"/", b"/", None, headers, "1.1", Peer(None, "http"), b"websocket" if upgrade else None)


@pytest.mark.parametrize(("method", "fields", "upgrade"), FRIENDLY)
def test_requests_of_the_own_origin_and_of_tools(method: str, fields: dict[str, str], upgrade: bool) -> None:
    head = asked(method, fields, upgrade)
    assert not Sender.of(head).is_foreign(head, OWN)


@pytest.mark.parametrize(("method", "fields", "upgrade"), FOREIGN)
def test_requests_of_other_origins(method: str, fields: dict[str, str], upgrade: bool) -> None:
    head = asked(method, fields, upgrade)
    assert Sender.of(head).is_foreign(head, OWN)


def test_a_request_with_two_origin_fields_is_foreign() -> None:
    head = asked("GET", {"Origin": OWN.decode()}, False)
    head.headers.append((b"origin", OWN))
    assert Sender.of(head).is_foreign(head, OWN)


def test_requests_that_navigate() -> None:
    def sender(**fields: str) -> Sender:
        return Sender.of(asked("GET", {name.replace("_", "-"): value for name, value in fields.items()}, False))

    assert sender(Accept="text/html,*/*").navigates
    assert sender(Sec_Fetch_Mode="navigate").navigates
    assert not sender(Accept="*/*").navigates
    assert not sender(Accept="text/html", Sec_Fetch_Mode="cors").navigates
    assert not sender().is_browser
    assert sender(Origin="null").is_browser and sender(Sec_Fetch_Site="none").is_browser


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Origin": "http://evil.example"}, "a page of http://evil.example"),
        ({"Origin": "null"}, "a page that hides its address"),
        ({"Sec-Fetch-Site": "same-site"}, "a page under another name of this door"),
        ({"Sec-Fetch-Site": "cross-site"}, "a page of another site"),
    ],
)
def test_descriptions_of_senders(fields: dict[str, str], words: str) -> None:
    assert Sender.of(asked("GET", fields, False)).description == words
