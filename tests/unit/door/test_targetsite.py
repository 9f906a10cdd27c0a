"""What a site learns of its target from answers, and who is told of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatchway.door.diagnosis import Diagnosis
from hatchway.door.hostheader import Settled
from hatchway.door.lookup import Found, Lookup
from hatchway.door.targetsite import TargetSite
from hatchway.kube.connection import Connection
from hatchway.proxy.routing import Forward, Peer, RequestHead, Respond, ResponseHead, Upstream
from hatchway.route.ways import Carries, Route, Way
from hatchway.target import Target, format_proxy_path
from tests.fake_view import make_service

HOST = b"web.shop.svc.dev.example.com"
NAVIGATION = ((b"Host", HOST + b":8001"), (b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Site", b"none"))
SCRIPT = (
    (b"Host", HOST + b":8001"),
    (b"Sec-Fetch-Mode", b"no-cors"),
    (b"Sec-Fetch-Site", b"same-origin"),
    (b"Referer", b"http://" + HOST + b":8001/"),
)
WEB = Target("services", "web", "shop")


class ProxyVerb:
    """A route that loses what a kube-apiserver's proxy verb loses."""

    name, generation, ready = "api", 1, True

    async def prepare(self) -> None:
        pass

    def way(self, target: Target) -> Way:
        lost = Carries(authorization=False, upgrade_query=False, methods=False, codings=False, unchanged=False)
        upstream = Upstream("key", cast(Any, None))
        return Way(upstream, format_proxy_path(target, "").encode(), [], lost)


class Services:
    """A lookup that knows one service."""

    def __init__(self, *ports: Any) -> None:
        self._found = Found(make_service("shop", "web", *ports))

    async def get(self, kind: str, namespace: str, name: str) -> Found:
        return self._found

    async def list(self, resource: str, namespace: str, label_selector: str = "") -> list[Any]:
        return [self._found.object]

    def forget(self) -> None:
        pass


class Learning:
    """A site, and what it has told: the target each time."""

    def __init__(self, *ports: Any, prefix: bytes = b"") -> None:
        self.told: list[Target] = []
        connection = cast(Connection, SimpleNamespace(trouble=None, context="test"))
        lookup = cast(Lookup, Services(*(ports or (("http", 80),))))
        self.site = TargetSite(
            WEB,
            b"prefix.dev.example.com" if prefix else HOST,
            connection=connection,
            route=cast(Route, ProxyVerb()),
            lookup=lookup,
            diagnosis=Diagnosis(connection, lookup, "dev.example.com"),
            domain="dev.example.com",
            wanted="auto",
            prefix=prefix,
            learned=self.told.append,
        )

    async def ask(self, *fields: tuple[bytes, bytes], page: tuple[tuple[bytes, bytes], ...] = NAVIGATION) -> Forward:
        """A GET by a person's navigation, or what `page` says instead."""
        path = self.site.prefix + b"/"
        head = RequestHead("GET", path, path, None, [*page, *fields], "1.1", Peer(("127.0.0.1", 1), "http"))
        decision = self.site.route(head)
        found = decision if isinstance(decision, Forward | Respond) else await cast(Any, decision)
        assert isinstance(found, Forward)
        return found

    def news(self) -> list[Target]:
        """What was told since the last time."""
        found, self.told[:] = list(self.told), []
        return found


async def refuse(forward: Forward, status: int, body: bytes, *fields: tuple[bytes, bytes]) -> Respond | Forward | None:
    """The target answers with a refusal. What the site makes of it."""
    assert forward.reconsider is not None
    again = forward.reconsider(ResponseHead(status, b"", list(fields)))
    assert again is not None
    return await again(body)


def answer(forward: Forward, status: int = 200) -> None:
    assert forward.edit_response is not None
    forward.edit_response(ResponseHead(status, b"", [(b"Content-Type", b"text/plain")]))


async def test_a_page_settles_the_host_once() -> None:
    learning = Learning()
    forward = await learning.ask()
    assert learning.news() == [WEB]
    answer(forward, 404)
    assert learning.news() == []
    answer(forward)
    assert learning.news() == [WEB]
    assert learning.site.host_header.settled is Settled.taken
    answer(await learning.ask())
    assert learning.news() == []
    assert forward.holds is not None and forward.holds()


async def test_another_host_is_tried_and_told() -> None:
    learning = Learning()
    forward = await learning.ask()
    learning.news()
    assert forward.holds is not None and forward.holds()
    again = await refuse(forward, 403, b"Forbidden host")
    assert isinstance(again, Forward)
    assert again.headers[0] == (b"Host", b"localhost")
    assert learning.news() == [WEB]
    assert not forward.holds()


def forwarded(forward: Forward) -> bytes:
    return dict(forward.headers)[b"X-Forwarded-Host"]


async def test_a_401_without_a_challenge_may_be_about_the_host() -> None:
    """qBittorrent's; one with a challenge is about a password."""
    learning = Learning()
    assert await refuse(await learning.ask(), 401, b"", (b"WWW-Authenticate", b"Basic")) is None
    again = await refuse(await learning.ask(), 401, b"")
    assert isinstance(again, Forward)
    assert again.headers[0] == (b"Host", b"localhost")
    assert forwarded(again) == HOST + b":8001"


async def test_the_forwarded_host_agrees_with_the_host_where_that_is_compared() -> None:
    """qBittorrent compares Referer, which follows the Host, with X-Forwarded-Host."""
    learning = Learning()
    again = await refuse(await learning.ask(), 401, b"")
    assert isinstance(again, Forward)
    answer(again)
    # Two of the page's files at once: neither waits for what the other one learns.
    for script in [await learning.ask(page=SCRIPT), await learning.ask(page=SCRIPT)]:
        assert forwarded(script) == HOST + b":8001"
        agreeing = await refuse(script, 401, b"")
        assert isinstance(agreeing, Forward)
        assert (b"Host", b"localhost") in agreeing.headers and (b"Referer", b"http://localhost/") in agreeing.headers
        assert forwarded(agreeing) == b"localhost"
        assert dict(agreeing.headers)[b"Forwarded"].endswith(b'host="localhost";proto=http')
        answer(agreeing)
    assert forwarded(await learning.ask(page=SCRIPT)) == b"localhost"


async def test_a_forwarded_host_that_agrees_and_is_refused_is_not_tried_again() -> None:
    learning = Learning()
    again = await refuse(await learning.ask(), 403, b"")
    assert isinstance(again, Forward)
    answer(again)
    agreeing = await refuse(await learning.ask(page=SCRIPT), 403, b"")
    assert isinstance(agreeing, Forward)
    assert await refuse(agreeing, 403, b"") is None
    script = await learning.ask(page=SCRIPT)
    assert forwarded(script) == HOST + b":8001"
    assert await refuse(script, 403, b"") is None


async def test_under_a_prefix_an_application_may_be_at_home_at_its_own_host_name() -> None:
    """WordPress keeps the address at which it was set up, and sends browsers there."""
    learning = Learning(prefix=b"/api/v1/namespaces/shop/services/web/proxy")
    page = ((b"Host", b"prefix.dev.example.com"), *NAVIGATION[1:])
    forward = await learning.ask(page=page)
    assert forward.headers[0] == (b"Host", b"prefix.dev.example.com")
    assert forward.edit_response is not None
    head = ResponseHead(301, b"", [(b"Location", b"http://" + HOST + b"/"), (b"Cache-Control", b"max-age=60")])
    forward.edit_response(head)
    assert head.headers == [(b"Location", learning.site.prefix + b"/"), (b"Cache-Control", b"no-store")]
    assert (await learning.ask(page=page)).headers[0] == (b"Host", HOST)
    # And what refuses the name that all have in common may take its own.
    learning = Learning(prefix=b"/api/v1/namespaces/shop/services/web/proxy")
    again = await refuse(await learning.ask(page=page), 400, b"unknown host")
    assert isinstance(again, Forward) and again.headers[0] == (b"Host", HOST)


async def test_the_scheme_that_is_found_is_told() -> None:
    learning = Learning({"name": "odd", "port": 7777, "protocol": "TCP"})
    forward = await learning.ask()
    assert b"/web:odd/proxy" in forward.target
    learning.news()
    again = await refuse(forward, 400, b"Client sent an HTTP request to an HTTPS server.")
    assert isinstance(again, Forward)
    assert b"/https:web:odd/proxy" in again.target
    assert learning.news() == [WEB]


async def test_what_the_route_cannot_carry_is_told_once() -> None:
    learning = Learning()
    forward = await learning.ask((b"Authorization", b"Basic YTpi"))
    assert not [value for name, value in forward.headers if name.lower() == b"authorization"]
    learning.news()
    for news in ([WEB], []):
        said = await refuse(forward, 401, b"", (b"WWW-Authenticate", b"Basic"))
        assert isinstance(said, Respond)
        assert (b"X-Hatchway-Problem", b"needs-forward") in said.headers
        # The page names the target as this door does.
        assert b"<dd>port--http.web.shop.svc.dev.example.com</dd>" in said.body
        assert learning.news() == news
    assert "password" in learning.site.needs_forward


@pytest.mark.parametrize("code", [404, 503])
async def test_the_api_servers_refusal_is_no_news(code: int) -> None:
    learning = Learning()
    forward = await learning.ask()
    learning.news()
    status = json.dumps({"kind": "Status", "apiVersion": "v1", "code": code, "message": "no"}).encode()
    await refuse(forward, code, status, (b"Content-Type", b"application/json"))
    assert learning.news() == []
    assert learning.site.host_header.settled is Settled.open
