"""Addresses in answers, as they are right at the door."""

from __future__ import annotations

import pytest

from hatchway.door.links import inner_url, loopback_names, outer_location, own_names
from hatchway.target import Target

OUTER = b"web.default.svc.localhost:8001"
PREFIX = b"/api/v1/namespaces/default/services/web/proxy"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"/login?next=/", b"/login?next=/"),
        (b"login", b"login"),
        (b"https://example.com/x", b"https://example.com/x"),
        (b"//cdn.example/x", b"//cdn.example/x"),
        (PREFIX + b"/login?a=b", b"/login?a=b"),
        (PREFIX, b"/"),
        (PREFIX + b"?q", b"/?q"),
        (PREFIX + b"ies/x", PREFIX + b"ies/x"),
        (b"http://" + OUTER + PREFIX + b"/x", b"http://" + OUTER + b"/x"),
        (b"https://WEB.default.svc.localhost:8001/x", b"http://" + OUTER + b"/x"),
        (b"http://web/x", b"http://" + OUTER + b"/x"),
        (b"http://web.default.svc.cluster.local:3000", b"http://" + OUTER + b"/"),
        (b"http://localhost:3000/x", b"http://" + OUTER + b"/x"),
        (b"//localhost:3000/x", b"http://" + OUTER + b"/x"),
        (b"http://web.other/x", b"http://web.other/x"),
    ],
)
def test_locations(value: bytes, expected: bytes) -> None:
    names = own_names(Target("services", "web", "default"))
    found = outer_location(value, outer=OUTER, sent=b"localhost:3000", names=names, prefix=PREFIX)
    assert found == expected


@pytest.mark.parametrize(
    ("value", "port", "own"),
    [
        (b"http://localhost:8080/x", "8080", True),
        (b"https://127.0.0.1:8080/x", "8080", True),
        (b"http://0.0.0.0:8080/x", "8080", True),
        (b"http://[::1]:8080/x", "8080", True),
        (b"http://localhost/x", "80", True),
        (b"http://localhost/x", "8080", False),
        (b"http://localhost:9090/x", "8080", False),
        (b"http://localhost:8080/x", "", False),
    ],
)
def test_an_application_that_takes_its_machine_for_the_browsers(value: bytes, port: str, own: bool) -> None:
    found = outer_location(
        value, outer=OUTER, sent=OUTER, names=frozenset(), prefix=PREFIX, loopback=loopback_names(port)
    )
    assert found == (b"http://" + OUTER + b"/x" if own else value)


def test_origin_and_referer_follow_host() -> None:
    def inner(value: bytes, scheme: bytes = b"http") -> bytes:
        return inner_url(value, outer=OUTER, scheme=scheme, sent=b"localhost:3000")

    assert inner(b"http://" + OUTER) == b"http://localhost:3000"
    assert inner(b"http://" + OUTER + b"/a?b", b"https") == b"https://localhost:3000/a?b"
    assert inner(b"http://elsewhere/a") == b"http://elsewhere/a"
    assert inner(b"null") == b"null"
