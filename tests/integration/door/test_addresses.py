"""Redirects and other fields with an application's own addresses, through a kube-apiserver, by host and by prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.door.small import Asked, Reply, Small, small

ADMIN: dict[str, object] = {"name": "admin", "port": 9091, "targetPort": 9090, "protocol": "TCP"}
SECURE: dict[str, object] = {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Small]:
    async with small(tmp_path, ADMIN) as found:
        yield found


async def answered(
    app: Small, host: str, fields: dict[str, str], path: str = "/dir", status: int = 301
) -> dict[str, str]:
    """Let the application answer with `fields`; return the header fields that the door sends.

    The words HOST and PORT in `fields` become the host name and the port that the application has received.
    """

    def reply(asked: Asked) -> Reply:
        own = {"HOST": asked.headers["host"].partition(":")[0], "PORT": str(app.port)}
        made = dict(fields)
        for word, value in own.items():
            made = {name: text.replace(word, value) for name, text in made.items()}
        return status, made, ""

    app.reply = reply
    path = app.prefix + path if host == "prefix" else path
    return (await app.made.ask(host, path)).headers


OWN = [
    "http://HOST:PORT/dir/?a=b",
    "http://HOST/dir/?a=b",
    "//HOST:PORT/dir/?a=b",
    "https://HOST:PORT/dir/?a=b",
    "http://localhost:PORT/dir/?a=b",
    "http://0.0.0.0:PORT/dir/?a=b",
    "http://app/dir/?a=b",
    "http://app.shop:80/dir/?a=b",
    "http://app.shop.svc.cluster.local:PORT/dir/?a=b",
    "http://10.96.7.7/dir/?a=b",
    "http://app-1:PORT/dir/?a=b",
    "http://app.shop.svc:30080/dir/?a=b",
]


@pytest.mark.parametrize("location", OWN)
async def test_redirects_to_addresses_of_the_application_lead_to_the_door(app: Small, location: str) -> None:
    found = await answered(app, "app.shop.svc", {"Location": location})
    assert found["location"] == f"http://{app.outer}/dir/?a=b"
    found = await answered(app, "prefix", {"Location": location})
    assert found["location"] == app.prefix + "/dir/?a=b"


async def test_another_port_has_an_address_of_its_own(app: Small) -> None:
    for location in ("http://HOST:9090/x", "http://app:9091/x"):
        found = await answered(app, "app.shop.svc", {"Location": location})
        assert found["location"] == f"http://admin.{app.outer}/x"
        found = await answered(app, "prefix", {"Location": location})
        assert found["location"] == app.prefix.replace("app:http", "app:admin") + "/x"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Refresh", "0; url=http://HOST:PORT/next", "0; url=URL/next"),
        ("Link", "<http://localhost:PORT/a?page=2>; rel=next", "<URL/a?page=2>; rel=next"),
        ("Content-Location", "http://HOST:PORT/a", "URL/a"),
        ("Destination", "http://HOST:PORT/a", "URL/a"),
        ("HX-Redirect", "http://0.0.0.0:PORT/a", "URL/a"),
    ],
)
async def test_other_fields_with_addresses(app: Small, name: str, value: str, expected: str) -> None:
    found = await answered(app, "app.shop.svc", {name: value}, status=200)
    assert found[name.lower()] == expected.replace("URL", f"http://{app.outer}")
    found = await answered(app, "prefix", {name: value}, status=200)
    assert found[name.lower()] in (
        expected.replace("URL", url) for url in (app.prefix, f"http://prefix.localhost:{app.made.port}{app.prefix}")
    )


async def test_a_policy_names_the_door_in_place_of_the_application(app: Small) -> None:
    found = await answered(
        app, "app.shop.svc", {"Content-Security-Policy": "connect-src ws://localhost:PORT"}, status=200
    )
    assert found["content-security-policy"] == f"connect-src ws://{app.outer}"


async def test_destination_has_the_host_that_the_application_receives(app: Small) -> None:
    app.reply = lambda asked: (200, {}, "") if asked.headers["host"].startswith("localhost") else (403, {}, "bad host")
    await app.page()
    origin = f"http://{app.outer}"
    await app.script("POST", "/a", Destination=f"{origin}/b", If=f"<{origin}/a> (<urn:x>)")
    asked = app.seen[-1].headers
    assert asked["destination"] == f"http://localhost:{app.port}/b"
    assert asked["if"] == f"<http://localhost:{app.port}/a> (<urn:x>)"


# Redirects to HTTPS


def demands(asked: Asked) -> Reply:
    """Redirect to HTTPS, as Django with SECURE_SSL_REDIRECT and Rails with force_ssl do."""
    if asked.headers.get("x-forwarded-proto") == "https":
        return 200, {"Content-Type": "text/plain"}, "secure"
    return 301, {"Location": f"https://{asked.headers['host']}{asked.path}", "Cache-Control": "max-age=600"}, ""


@pytest.mark.parametrize("host", ["app.shop.svc", "prefix"])
async def test_an_application_that_demands_https_is_told_that_the_request_used_it(app: Small, host: str) -> None:
    app.reply = demands
    path = (app.prefix if host == "prefix" else "") + "/a?b=c"
    found = await app.made.ask(host, path)
    assert found.headers["location"] in (f"http://{app.outer}/a?b=c", path)
    assert found.headers["cache-control"] == "no-store"
    assert (await app.made.ask(host, path)).status == 200
    origin = f"http://{host}.localhost:{app.made.port}"
    await app.made.ask(host, path, "POST", Origin=origin, Referer=origin + path)
    assert app.seen[-1].headers["origin"].startswith("https://")


async def test_an_application_that_always_redirects_to_https_causes_no_loop(app: Small) -> None:
    app.reply = lambda asked: (301, {"Location": f"https://{asked.headers['host']}{asked.path}"}, "")
    statuses = [(await app.made.ask("app.shop.svc", "/a")).status for _ in range(4)]
    assert statuses.count(301) >= 1 and len(app.seen) <= 5


async def test_https_has_a_port_of_its_own(tmp_path: Path) -> None:
    async with small(tmp_path, SECURE) as app:
        found = await answered(app, "app.shop.svc", {"Location": "https://HOST/dir"})
        assert found["location"] == f"http://port--https.{app.outer}/dir"


@pytest.mark.parametrize(("kind", "length"), [("text/html", None), ("image/png", "7")])
async def test_head_announces_the_length_that_get_would_have(app: Small, kind: str, length: str | None) -> None:
    """A page's length is known only after it was rewritten."""
    app.reply = lambda asked: (200, {"Content-Type": kind}, "<p>page")
    for method in ("GET", "HEAD"):
        found = await app.made.ask("app.shop.svc", "/", method)
        assert (found.status, found.headers.get("content-length")) == (200, length)
    # The API server's proxy verb, for which the path is a prefix, does the same.
    found = await app.made.ask("prefix", f"{app.prefix}/", "HEAD")
    assert (found.status, found.headers.get("content-length")) == (200, length)
