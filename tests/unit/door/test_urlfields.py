"""URLs in header fields of answers are translated to the door's addresses."""

from __future__ import annotations

import time

import pytest

from hatchway.door.targetaddresses import PortSpellings, TargetAddresses
from hatchway.door.urlfields import inner_tags, inner_url, outer_field, outer_url
from hatchway.target import Target

OUTER = b"web.default.svc.localhost:8001"
PREFIX = b"/api/v1/namespaces/default/services/web/proxy"


def locate(value: bytes, addresses: TargetAddresses, sent: bytes = OUTER) -> bytes:
    return outer_url(
        value,
        outer=OUTER,
        origin_of=lambda host: b"http://" + host,
        sent=sent,
        addresses=addresses,
        prefix=PREFIX,
        url_of_port=lambda other: b"http://" + other.port.encode(),
    )


WEB = Target("services", "web", "default")
OUTER_HOST = b"web.default.svc.localhost"
PORTS = PortSpellings(
    "http", {"8080": "http", "9090": "admin"}, {"80": "http", "443": "https", "9091": "admin"}, {"30080": "http"}
)
KNOWN = TargetAddresses(
    WEB, number="8080", ports=PORTS, service=["10.96.1.2", "fd00::5"], pods=["web-0", "10.244.0.7"], outer=[OUTER_HOST]
)


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
        (b"http://" + OUTER + PREFIX + b"/x", b"http://OUTER/x"),
        (b"https://WEB.default.svc.localhost:8001/x", b"http://OUTER/x"),
        # The service's names and addresses, with a port of the service or without a port.
        (b"http://web/x", b"http://OUTER/x"),
        (b"http://web.default.svc.cluster.local:8080", b"http://OUTER/"),
        (b"http://web.default.svc.corp.example/x", b"http://OUTER/x"),
        (b"http://web-0.web.default.svc.cluster.local:8080/x", b"http://OUTER/x"),
        (b"http://10.96.1.2/x", b"http://OUTER/x"),
        (b"http://[fd00::5]:80/x", b"http://OUTER/x"),
        (b"http://10.244.0.7:8080/x", b"http://OUTER/x"),
        (b"http://web-0:8080/x", b"http://OUTER/x"),
        (b"http://web:30080/x", b"http://OUTER/x"),
        (b"http://web:7777/x", b"http://OUTER/x"),
        # The door's name with the application's port, or without the door's port (nginx).
        (b"http://web.default.svc.localhost:8080/dir/", b"http://OUTER/dir/"),
        (b"http://web.default.svc.localhost/dir/?a=b#c", b"http://OUTER/dir/?a=b#c"),
        (b"//web.default.svc.localhost:8080/dir/", b"http://OUTER/dir/"),
        (b"http://web.default.svc.localhost:8080" + PREFIX + b"/dir/", b"http://OUTER/dir/"),
        # Another port of the service has its own host name.
        (b"http://web.default.svc.localhost:9090/x", b"http://admin/x"),
        (b"http://web:9091/x", b"http://admin/x"),
        (b"https://web.default.svc.localhost/x", b"http://https/x"),
        (b"https://10.96.1.2/x", b"http://https/x"),
        # Names of the machine on which the application runs, with the application's port.
        (b"http://localhost:8080/x", b"http://OUTER/x"),
        (b"https://127.0.0.1:8080/x", b"http://OUTER/x"),
        (b"http://0.0.0.0:8080/x", b"http://OUTER/x"),
        (b"http://[::1]:8080/x", b"http://OUTER/x"),
        (b"http://0.0.0.0:9090/x", b"http://admin/x"),
        (b"http://localhost/x", b"http://localhost/x"),
        (b"http://localhost:9090/x", b"http://localhost:9090/x"),
        (b"http://localhost:5432/x", b"http://localhost:5432/x"),
        # Addresses of other servers.
        (b"http://web.other/x", b"http://web.other/x"),
        (b"http://10.244.0.8:8080/x", b"http://10.244.0.8:8080/x"),
        (b"http://web@evil.example/x", b"http://web@evil.example/x"),
        (b"http://web:pw@evil.example/x", b"http://web:pw@evil.example/x"),
        (b"http:///x", b"http:///x"),
    ],
)
def test_locations(value: bytes, expected: bytes) -> None:
    assert locate(value, KNOWN) == expected.replace(b"OUTER", OUTER)


@pytest.mark.parametrize(
    ("value", "port", "own"),
    [
        (b"http://localhost/x", "80", True),
        (b"http://localhost/x", "8080", False),
        (b"http://localhost:9090/x", "8080", False),
        (b"http://localhost:8080/x", "", False),
    ],
)
def test_loopback_addresses_with_the_applications_port_are_its_own(value: bytes, port: str, own: bool) -> None:
    known = TargetAddresses(WEB, number=port, ports=PortSpellings("", {}, {}, {}))
    assert locate(value, known) == (b"http://" + OUTER + b"/x" if own else value)


def test_the_host_sent_to_the_application_is_its_own() -> None:
    assert locate(b"http://grafana.example/x", KNOWN, sent=b"grafana.example") == b"http://" + OUTER + b"/x"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("link", b'<http://web/a>; rel=next, </b>; rel="x"', b'<http://OUTER/a>; rel=next, </b>; rel="x"'),
        ("refresh", b"5; url=http://localhost:8080/a", b"5; url=http://OUTER/a"),
        ("refresh", b"0;URL='http://web:8080/a'", b"0;URL='http://OUTER/a'"),
        ("refresh", b"5", b"5"),
        ("content-location", b"http://0.0.0.0:8080/a", b"http://OUTER/a"),
        ("destination", b"http://web.default.svc.localhost:8080/a", b"http://OUTER/a"),
        ("access-control-allow-origin", b"http://localhost:8080", b"http://OUTER"),
        ("access-control-allow-origin", b"*", b"*"),
        (
            "content-security-policy",
            b"default-src 'self'; connect-src ws://localhost:8080 wss://0.0.0.0:8080/ws web:8080 https://x.example *",
            b"default-src 'self'; connect-src ws://OUTER ws://OUTER/ws OUTER https://x.example *",
        ),
        ("content-security-policy", b"img-src data: blob: http: 'nonce-a:1'", b"img-src data: blob: http: 'nonce-a:1'"),
    ],
)
def test_fields_with_addresses(name: str, value: bytes, expected: bytes) -> None:
    assert outer_field(name.encode(), value, lambda url: locate(url, KNOWN)) == expected.replace(b"OUTER", OUTER)


def test_origin_and_referer_follow_host() -> None:
    def inner(value: bytes, scheme: bytes = b"http") -> bytes:
        return inner_url(value, outer=OUTER, scheme=scheme, sent=b"localhost:3000")

    assert inner(b"http://" + OUTER) == b"http://localhost:3000"
    assert inner(b"http://" + OUTER + b"/a?b", b"https") == b"https://localhost:3000/a?b"
    assert inner(b"http://elsewhere/a") == b"http://elsewhere/a"
    assert inner(b"null") == b"null"


def test_tagged_lists_of_webdav_follow_host() -> None:
    value = b"<http://" + OUTER + b"/a> (<urn:uuid:1>) <http://elsewhere/b> (<urn:uuid:2>)"
    found = inner_tags(value, outer=OUTER, scheme=b"http", sent=b"localhost:3000")
    assert found == b"<http://localhost:3000/a> (<urn:uuid:1>) <http://elsewhere/b> (<urn:uuid:2>)"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("link", b"<" * 60_000),
        ("link", b"<a" * 30_000),
        ("refresh", b"1" + b" " * 60_000),
        ("refresh", b" " * 60_000),
        ("reporting-endpoints", b'"' * 60_001),
        ("content-security-policy", b"a:" + b"1" * 60_000 + b"*"),
        ("content-security-policy", b"http://" + b"a" * 60_000 + b"'"),
    ],
)
def test_fields_are_scanned_in_linear_time(name: str, value: bytes) -> None:
    """Regular expressions with backtracking would take minutes for these fields."""
    begin = time.thread_time()
    outer_field(name.encode(), value, lambda url: url)
    inner_tags(value, outer=b"a", scheme=b"http", sent=b"b")
    assert time.thread_time() - begin < 2
