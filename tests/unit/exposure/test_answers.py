"""The classification of answers to requests without credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hatchway.exposure.answers import Certificate, ProbeAnswer, classify, with_answers
from hatchway.exposure.findings import Exposure, Location
from hatchway.exposure.ranges import Reach

HTML = {"content-type": "text/html; charset=utf-8"}
NOW = datetime(2026, 6, 1, tzinfo=UTC)
AT = Location("203.0.113.1", 80)


@pytest.mark.parametrize(
    ("status", "fields", "body", "kind", "told"),
    [
        (200, HTML, b"<title>Shop</title>hello", "page", 'shows a page without credentials, "Shop"'),
        (200, {}, b"  <html>hello", "page", "shows a page without credentials"),
        (200, HTML, b"<form><INPUT name=p type='password'>", "login", "shows a login"),
        (404, HTML, b"<input type=password>", "login", "shows a login"),
        (200, {"content-type": "application/json"}, b"{}", "api", "answers without credentials (application/json)"),
        (200, {}, b"", "api", "answers without credentials (no content type)"),
        (401, {"www-authenticate": "Basic realm=x"}, b"", "login", "asks for credentials (401, Basic)"),
        (401, {}, b"", "login", "asks for credentials (401)"),
        (403, {}, b"", "login", "refuses requests without credentials (403)"),
        (
            302,
            {"location": "https://sso.example/oauth2/authorize?x"},
            b"",
            "login",
            "redirects to https://sso.example/",
        ),
        (302, {"location": "/login"}, b"", "login", "redirects to /login (302)"),
        (301, {"location": "https://shop.example/authors"}, b"", "other", "redirects to https://shop.example/authors"),
        (302, {}, b"", "other", "redirects to nowhere (302)"),
        (302, {"location": "http://[login"}, b"", "other", "redirects to http://[login (302)"),
        (200, {"content-type": "x" * 9999}, b"", "api", f"answers without credentials ({'x' * 60})"),
        (404, {}, b"", "other", "answers 404 to GET /"),
        (503, HTML, b"<title>No backend</title>", "other", 'answers 503 to GET /, "No backend"'),
    ],
)
def test_kinds(status: int, fields: dict[str, str], body: bytes, kind: str, told: str) -> None:
    found = classify(status, fields, body)
    assert found[0] == kind
    assert found[1].startswith(told)


def certificate(begins: int = -10, ends: int = 10) -> Certificate:
    return Certificate(("shop.example",), "CA", NOW + timedelta(days=begins), NOW + timedelta(days=ends))


def rules(answer: ProbeAnswer, reach: Reach = "internet", shield: str = "none") -> dict[str, str]:
    way = Exposure("Service", "shop", "web", "LoadBalancer", (AT,), reach, shield=shield)  # type: ignore[arg-type]
    return {issue.rule: issue.severity for issue in with_answers(way, [answer], NOW).issues}


def test_findings_follow_from_answers_and_reach() -> None:
    api, page = ProbeAnswer(AT, "api", "x", False), ProbeAnswer(AT, "page", "x", True)
    assert rules(api) == {"no-credentials": "medium"}
    assert rules(page) == {"no-credentials": "low"}
    assert rules(api, "private") == {}
    login = ProbeAnswer(AT, "login", "x", False)
    assert rules(login) == {"login-without-tls": "medium"}
    assert rules(login, "private") == {"login-without-tls": "low"}
    assert rules(login, "machine") == {}
    assert rules(ProbeAnswer(AT, "login", "x", True)) == {}
    assert rules(ProbeAnswer(AT, "other", "x", True, certificate(ends=-1))) == {"bad-certificate": "medium"}
    assert rules(ProbeAnswer(AT, "other", "x", True, certificate(begins=1))) == {"bad-certificate": "medium"}
    assert rules(ProbeAnswer(AT, "other", "x", True, certificate())) == {}


def test_only_an_answer_in_spite_of_policies_is_a_finding() -> None:
    assert rules(ProbeAnswer(AT, "no-http", "x"), "nobody", "full") == {"policy-not-enforced": "medium"}
    assert rules(ProbeAnswer(AT, "unreachable", "x"), "nobody", "full") == {}


def test_bytes_that_are_not_a_certificate() -> None:
    assert Certificate.parse(b"\x30\x03abc") is None
