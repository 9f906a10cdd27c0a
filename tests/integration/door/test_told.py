"""The Host, Origin and Referer that the door sends to applications that check them in different ways.

Each function or lambda that answers requests checks these fields like a kind of application. Comments name examples.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.integration.door.small import Asked, Reply, Small, small

OK: Reply = (200, {"Content-Type": "text/plain"}, "done")
ACCEPTED: Reply = (101, {}, "")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Small]:
    async with small(tmp_path) as found:
        yield found


def refuses(status: int = 403, body: str = "no", kind: str = "text/plain") -> Reply:
    return status, {"Content-Type": kind}, body


# Applications that read different fields


def forwarded_split_by_hand(asked: Asked) -> str:
    """Parse Forwarded as code-server's `getHost` does, which leaves quotes in the host."""
    for part in re.split("[;,]", asked.headers.get("forwarded", "")):
        name, _, value = part.partition("=")
        if name.strip().lower() == "host" and value:
            return value.strip().lower()
    return asked.headers.get("x-forwarded-host") or asked.headers["host"]


def port_appended(asked: Asked) -> str:
    """Join X-Forwarded-Host and X-Forwarded-Port."""
    headers = asked.headers
    return (
        f"{headers['x-forwarded-host']}:{headers['x-forwarded-port']}"
        if "x-forwarded-host" in headers
        else headers["host"]
    )


def host_only(asked: Asked) -> str:
    return asked.headers["host"]


def port_of_the_server(asked: Asked) -> str:
    """Join the name in Host with the port of the server's socket."""
    return asked.headers["host"].partition(":")[0] + ":PORT"


def address_of_the_server(asked: Asked) -> str:
    """Serve pages for every Host, and WebSockets only for pages of localhost, as Bokeh and Panel do by default."""
    return "localhost:PORT"


READERS: list[Callable[[Asked], str]] = [
    forwarded_split_by_hand,
    port_appended,
    host_only,
    port_of_the_server,
    address_of_the_server,
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("status", [400, 401, 403, 421])
@pytest.mark.parametrize("under_prefix", [False, True])
async def test_websockets_whose_origin_is_compared(
    app: Small, reader: Callable[[Asked], str], status: int, under_prefix: bool
) -> None:
    def reply(asked: Asked) -> Reply:
        if not asked.upgrade:
            return OK
        return ACCEPTED if reader(asked).replace("PORT", str(app.port)) == asked.browser_address else refuses(status)

    app.reply = reply
    host = f"prefix.localhost:{app.made.port}" if under_prefix else app.outer
    start = app.prefix if under_prefix else ""
    await app.made.ask(host.partition(".localhost")[0], start + "/")
    assert await app.connect(start + "/ws", host) == 101
    known = len(app.seen)
    assert await app.connect(start + "/ws", host) == 101
    assert len(app.seen) == known + 1, "the accepted fields are cached"
    await app.made.ask(host.partition(".localhost")[0], start + "/")
    assert app.seen[-1].headers["host"] == host, "requests for pages still have the outer host name"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_writes_whose_origin_is_compared(app: Small, reader: Callable[[Asked], str], method: str) -> None:
    def reply(asked: Asked) -> Reply:
        if asked.method == "GET":
            return OK
        return OK if reader(asked).replace("PORT", str(app.port)) == asked.browser_address else refuses()

    app.reply = reply
    await app.page()
    tries = 1
    while await app.script(method, "/save", b"a=1") != 200:
        tries += 1
        assert tries < 4
    sent = [asked for asked in app.seen if asked.method == method]
    assert len(sent) == tries, "the door does not send a request twice"
    assert await app.script(method, "/save", b"a=2") == 200


@pytest.mark.parametrize("configured", ["http://localhost:PORT", "http://app.shop.svc.cluster.local"])
@pytest.mark.parametrize(
    "refusal",
    [
        refuses(403),
        refuses(403, "Forbidden - origin invalid"),
        refuses(400, "Bad Request"),
        refuses(403, '{"detail": "CSRF Failed: Origin checking failed"}', "application/json"),
        refuses(400, '{"error": "cross-origin request"}', "application/json"),
    ],
    ids=["silent", "gorilla", "nosurf", "django", "json"],
)
@pytest.mark.parametrize("field", ["origin", "referer"])
async def test_a_refused_write_changes_the_fields_of_the_next_one(
    app: Small, configured: str, refusal: Reply, field: str
) -> None:
    """The application serves pages for every Host, but accepts writes only from one origin.

    Examples: Django's CSRF_TRUSTED_ORIGINS, SvelteKit's ORIGIN.
    """

    def reply(asked: Asked) -> Reply:
        if asked.method == "GET":
            return OK
        return OK if asked.headers[field].startswith(configured.replace("PORT", str(app.port))) else refusal

    app.reply = reply
    await app.page()
    answers = [await app.script("POST", "/save", b"a=1") for _ in range(4)]
    assert answers[0] == refusal[0] and answers[-1] == 200, answers
    assert answers.index(200) == (1 if "localhost" in configured else 2)
    assert [asked.body for asked in app.seen if asked.method == "POST"] == [b"a=1"] * 4
    # Requests for pages still have the outer host name.
    await app.page()
    assert app.seen[-1].headers["host"] == app.outer


async def test_a_write_without_a_body_that_was_refused_for_its_origin_is_sent_again(app: Small) -> None:
    def reply(asked: Asked) -> Reply:
        ours = asked.headers["host"].startswith("localhost")
        return OK if asked.method == "GET" or ours else refuses(403, "Cross-origin request blocked")

    app.reply = reply
    assert await app.script("DELETE", "/item") == 200
    assert await app.script("DELETE", "/item") == 200
    assert [asked.method for asked in app.seen] == ["DELETE"] * 3


@pytest.mark.parametrize(
    "refusal",
    [
        refuses(403, "Wrong password"),
        refuses(400, '{"name": ["This field is required."]}', "application/json"),
        refuses(401, "who are you?"),
        refuses(409, "there already"),
        refuses(422, "no"),
        refuses(404, "no such item"),
    ],
)
async def test_a_refusal_for_another_reason_changes_nothing(app: Small, refusal: Reply) -> None:
    app.reply = lambda asked: OK if asked.method == "GET" else refusal
    await app.page()
    for _ in range(3):
        assert await app.script("POST", "/log-in", b"a=1") == refusal[0]
    assert {asked.headers["host"] for asked in app.seen} == {app.outer}


async def test_one_refused_write_does_not_change_the_fields_that_were_accepted_before(app: Small) -> None:
    app.reply = lambda asked: refuses(403) if asked.path == "/admin" else OK
    assert await app.script("POST", "/save", b"a=1") == 200
    assert await app.script("POST", "/admin", b"a=1") == 403
    assert await app.script("POST", "/save", b"a=1") == 200
    assert {asked.headers["host"] for asked in app.seen} == {app.outer}


async def test_refusals_of_requests_by_tools_change_nothing(app: Small) -> None:
    app.reply = lambda asked: refuses(403)
    for _ in range(2):
        assert (await app.made.ask("app.shop.svc", "/", "POST", page=False, body=b"x")).status == 403
    assert {asked.headers["host"] for asked in app.seen} == {app.outer}


async def test_an_application_that_refuses_forwarded_requests_gets_none_of_the_fields(app: Small) -> None:
    """The API server always adds X-Forwarded-For, so Home Assistant must be configured to accept that field."""
    app.reply = lambda asked: refuses(400, "400: Bad Request") if "x-forwarded-host" in asked.headers else OK
    for _ in range(2):
        assert (await app.page())[0] == 200
        assert app.seen[-1].headers["host"] == app.outer
    known = len(app.seen)
    assert await app.script("POST", "/auth", b"x") == 200
    assert len(app.seen) == known + 1


@pytest.mark.parametrize(
    ("refusal", "allowed"),
    [
        (refuses(400, "<h1>Bad Request (400)</h1>", "text/html"), "localhost"),  # Django's ALLOWED_HOSTS
        (refuses(403, "Blocked request. This host is not allowed."), "localhost"),  # Vite
        (refuses(403, "Blocked hosts: app", "text/html"), "app.shop.svc.cluster.local"),  # Rails
        (refuses(421, "Misdirected Request"), "localhost"),
        (refuses(200, "Invalid Host header", "text/html"), "localhost"),  # webpack-dev-server up to 3
    ],
)
async def test_lists_of_allowed_hosts(app: Small, refusal: Reply, allowed: str) -> None:
    app.reply = lambda asked: OK if asked.headers["host"].partition(":")[0] == allowed else refusal
    for _ in range(2):
        status, _, body = await app.page()
        assert (status, body) == (200, b"done")
    known = len(app.seen)
    await app.page()
    assert len(app.seen) == known + 1
