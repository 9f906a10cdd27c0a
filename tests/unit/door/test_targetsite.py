"""A site finds facts in the answers of its target, and calls its subscribers."""

from __future__ import annotations

import asyncio
import json
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatchway.door.address import DoorAddress
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.hostheader import HostState
from hatchway.door.knowledge import TargetKnowledge
from hatchway.door.targetsite import TargetSite
from hatchway.door.usersession import UserSession
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import LookupResult, ObjectLookup
from hatchway.proxy.routing import CachedDecision, Forward, Peer, RequestHead, Respond, ResponseHead, Upstream
from hatchway.route.chooser import RouteChoice, RouteChooser
from hatchway.route.contract import Route, RouteCapabilities, TargetRoute
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


LOST = RouteCapabilities(authorization=False, methods=False, codings=False, unchanged=False)


class ProxyVerb:
    """A route that loses the same things as the proxy verb of kube-apiserver."""

    generation = 1
    _choice = RouteChoice(cast(Route, object()), LOST)

    def choice(self, target: Target) -> RouteChoice:
        return self._choice

    async def prepare(self, target: Target) -> RouteChoice:
        return self._choice

    def route_to(self, target: Target) -> TargetRoute:
        upstream = Upstream("key", cast(Any, None))
        return TargetRoute("api", upstream, format_proxy_path(target, "").encode(), [], LOST)


class Services:
    """A lookup that finds one service."""

    def __init__(self, *ports: Any) -> None:
        self._found = LookupResult(make_service("shop", "web", *ports))

    async def get(self, kind: str, namespace: str, name: str) -> LookupResult:
        return self._found

    async def list_readable(self, resource: str, namespace: str, label_selector: str = "") -> list[Any]:
        return [self._found.object]

    def forget(self) -> None:
        pass


class Learning:
    """A site, and the targets with which it has called its subscribers."""

    def __init__(
        self, *ports: Any, prefix: bytes = b"", target: Target = WEB, address: DoorAddress | None = None
    ) -> None:
        self.told: list[Target] = []
        self.cached: CachedDecision | None = None
        found = SimpleNamespace(trouble=None, context="test", label='context "test"', fresh_until=math.inf)
        connection = cast(Connection, found)
        host = b"prefix.dev.example.com" if prefix else HOST
        session = UserSession(connection, cast(RouteChooser, ProxyVerb()), "dev.example.com")
        session.lookup = cast(ObjectLookup, Services(*(ports or (("http", 80),))))
        address = address or DoorAddress("dev.example.com")
        self.knowledge = TargetKnowledge(
            target,
            host,
            host_option="auto",
            own_host_name=HOST if prefix else b"",
            exact=bool(prefix),
            on_change=self.told.append,
        )
        self.prefix = prefix
        diagnosis = Diagnosis(connection, session.lookup, address)
        self.site = TargetSite(self.knowledge, session, host=host, prefix=prefix, address=address, diagnosis=diagnosis)

    async def ask(self, *fields: tuple[bytes, bytes], page: tuple[tuple[bytes, bytes], ...] = NAVIGATION) -> Forward:
        """Send a GET of a browser's navigation, or the request that `page` describes."""
        path = self.prefix + b"/"
        head = RequestHead("GET", path, path, None, [*page, *fields], "1.1", Peer(("127.0.0.1", 1), "http"))
        decision = self.site.route(head)
        found = decision if isinstance(decision, Forward | Respond) else await cast(Any, decision)
        assert isinstance(found, Forward)
        self.cached = head.cached
        return found

    def repeats(self, forward: Forward) -> bool:
        """Return True if a request with the same head as the last request would be forwarded without a new decision."""
        assert self.cached is not None
        repeated = self.cached.begin(lambda: pytest.fail("no head is needed"))
        assert repeated is forward or repeated is None
        return repeated is not None

    def news(self) -> list[Target]:
        """Return the targets with which subscribers were called since the last call of this method."""
        found, self.told[:] = list(self.told), []
        return found


async def refuse(forward: Forward, status: int, body: bytes, *fields: tuple[bytes, bytes]) -> Respond | Forward | None:
    """Let the target refuse a request; return the site's next decision, None if it forwards the refusal."""
    assert forward.reconsider is not None
    again = forward.reconsider(ResponseHead(status, b"", list(fields)))
    assert again is not None
    return await again(body)


def answer(forward: Forward, status: int = 200) -> None:
    assert forward.edit_response is not None
    forward.edit_response(ResponseHead(status, b"", [(b"Content-Type", b"text/plain")]))


async def test_an_object_that_was_requested_before_the_target_expired_is_read_again() -> None:
    begun, answered = asyncio.Event(), asyncio.Event()

    class SlowServices(Services):
        async def get(self, kind: str, namespace: str, name: str) -> LookupResult:
            begun.set()
            await answered.wait()
            return await super().get(kind, namespace, name)

    knowledge = TargetKnowledge(WEB, HOST, host_option="auto")
    lookup = cast(ObjectLookup, SlowServices(("http", 80)))
    refreshing = asyncio.ensure_future(knowledge.refresh(lookup))
    await begun.wait()
    knowledge.expire()
    answered.set()
    await refreshing
    assert knowledge.resolved is not None and not knowledge.is_fresh
    await knowledge.refresh(lookup)
    assert knowledge.is_fresh


async def test_an_accepted_page_decides_the_host_once() -> None:
    learning = Learning()
    forward = await learning.ask()
    assert learning.news() == [WEB]
    answer(forward, 404)
    assert learning.news() == []
    answer(forward)
    assert learning.news() == [WEB]
    assert learning.knowledge.host_choice.state is HostState.ACCEPTED
    answer(forward := await learning.ask())
    assert learning.news() == []
    assert learning.repeats(forward)


async def test_another_host_is_tried_and_reported() -> None:
    learning = Learning()
    forward = await learning.ask()
    learning.news()
    assert learning.repeats(forward)
    again = await refuse(forward, 403, b"Forbidden host")
    assert isinstance(again, Forward)
    assert again.headers[0] == (b"Host", b"localhost")
    assert learning.news() == [WEB]
    assert not learning.repeats(forward)


async def test_a_decision_that_omitted_cookies_is_not_cached() -> None:
    """A later request with the same bytes must include the cookie, if the site has set the cookie meanwhile."""
    learning = Learning()
    learning.site._cookies.record_set_cookie(b"own=1")
    for cookie, passed, kept in ((b"own=1; new=2", b"own=1", False), (b"own=1", b"own=1", True)):
        worker = (*SCRIPT, (b"Sec-Fetch-Dest", b"serviceworker"), (b"Cookie", cookie))
        forward = await learning.ask(page=worker)
        assert dict(forward.headers)[b"Cookie"] == passed
        assert (learning.cached is not None) is kept
    learning.site._cookies.record_set_cookie(b"new=2")
    forward = await learning.ask(page=(*SCRIPT, (b"Sec-Fetch-Dest", b"serviceworker"), (b"Cookie", b"own=1; new=2")))
    assert dict(forward.headers)[b"Cookie"] == b"own=1; new=2" and learning.repeats(forward)


def forwarded(forward: Forward) -> bytes | None:
    return dict(forward.headers).get(b"X-Forwarded-Host")


async def test_a_401_without_a_challenge_may_be_about_the_host() -> None:
    """The answer of qBittorrent to a wrong Host; a 401 with a challenge asks for a password."""
    learning = Learning()
    assert await refuse(await learning.ask(), 401, b"", (b"WWW-Authenticate", b"Basic")) is None
    again = await refuse(await learning.ask(), 401, b"")
    assert isinstance(again, Forward)
    assert again.headers[0] == (b"Host", b"localhost")
    assert forwarded(again) == HOST + b":8001"


async def test_x_forwarded_host_is_omitted_for_an_application_that_refuses_it() -> None:
    """For example, qBittorrent compares X-Forwarded-Host with Referer, which the door adapts to the Host."""
    learning = Learning()
    again = await refuse(await learning.ask(), 401, b"")
    assert isinstance(again, Forward)
    answer(again)
    # Two files of the page are requested at once; neither request waits for the result of the other.
    for script in [await learning.ask(page=SCRIPT), await learning.ask(page=SCRIPT)]:
        assert forwarded(script) == HOST + b":8001"
        bare = await refuse(script, 401, b"")
        assert isinstance(bare, Forward)
        assert (b"Host", b"localhost") in bare.headers and (b"Referer", b"http://localhost/") in bare.headers
        assert forwarded(bare) is None
        answer(bare)
    script = await learning.ask(page=SCRIPT)
    assert forwarded(script) is None and script.headers[0] == (b"Host", b"localhost")


async def test_a_second_refusal_without_forwarded_fields_is_final() -> None:
    learning = Learning()
    again = await refuse(await learning.ask(), 403, b"")
    assert isinstance(again, Forward)
    answer(again)
    bare = await refuse(await learning.ask(page=SCRIPT), 403, b"")
    assert isinstance(bare, Forward)
    assert await refuse(bare, 403, b"") is None
    script = await learning.ask(page=SCRIPT)
    assert forwarded(script) == HOST + b":8001"
    assert await refuse(script, 403, b"") is None


async def test_an_application_under_a_prefix_may_redirect_to_its_own_host_name() -> None:
    """WordPress stores the address at which it was installed, and redirects browsers there."""
    learning = Learning(prefix=b"/api/v1/namespaces/shop/services/web/proxy")
    page = ((b"Host", b"prefix.dev.example.com"), *NAVIGATION[1:])
    forward = await learning.ask(page=page)
    assert forward.headers[0] == (b"Host", b"prefix.dev.example.com")
    assert forward.edit_response is not None
    head = ResponseHead(301, b"", [(b"Location", b"http://" + HOST + b"/"), (b"Cache-Control", b"max-age=60")])
    forward.edit_response(head)
    assert head.headers == [(b"Location", learning.prefix + b"/"), (b"Cache-Control", b"no-store")]
    assert (await learning.ask(page=page)).headers[0] == (b"Host", HOST)
    # A target that refuses the name of all prefixes may accept its own host name.
    learning = Learning(prefix=b"/api/v1/namespaces/shop/services/web/proxy")
    again = await refuse(await learning.ask(page=page), 400, b"unknown host")
    assert isinstance(again, Forward) and again.headers[0] == (b"Host", HOST)


async def test_a_new_scheme_is_reported() -> None:
    learning = Learning({"name": "odd", "port": 7777, "protocol": "TCP"})
    forward = await learning.ask()
    assert b"/web:odd/proxy" in forward.target
    learning.news()
    again = await refuse(forward, 400, b"Client sent an HTTP request to an HTTPS server.")
    assert isinstance(again, Forward)
    assert b"/https:web:odd/proxy" in again.target
    assert learning.news() == []
    answer(again, 404)
    assert learning.news() == [WEB]
    assert b"/https:web:odd/proxy" in (await learning.ask()).target


async def test_a_need_that_the_route_cannot_meet_is_reported_once() -> None:
    learning = Learning()
    forward = await learning.ask((b"Authorization", b"Basic YTpi"))
    assert not [value for name, value in forward.headers if name.lower() == b"authorization"]
    learning.news()
    for news in ([WEB], []):
        said = await refuse(forward, 401, b"", (b"WWW-Authenticate", b"Basic"))
        assert isinstance(said, Respond)
        assert (b"X-Hatchway-Problem", b"needs-forward") in said.headers
        # The page uses the door's name for the target.
        assert b"<dd>port--http.web.shop.svc.dev.example.com</dd>" in said.body
        assert learning.news() == news
    assert "password" in learning.knowledge.unmet_need


@pytest.mark.parametrize("code", [404, 503])
async def test_a_refusal_by_the_api_server_is_not_a_fact_about_the_target(code: int) -> None:
    learning = Learning()
    forward = await learning.ask()
    learning.news()
    status = json.dumps({"kind": "Status", "apiVersion": "v1", "code": code, "message": "no"}).encode()
    await refuse(forward, code, status, (b"Content-Type", b"application/json"))
    assert learning.news() == []
    assert learning.knowledge.host_choice.state is HostState.OPEN


async def test_the_root_of_a_node_shows_what_a_kubelet_offers() -> None:
    """A kubelet answers `404 page not found` at its root, which does not help a user."""
    learning = Learning(target=Target("nodes", "n1"))
    refusal = 404, b"404 page not found\n", (b"Content-Type", b"text/plain")
    page = await refuse(await learning.ask(), *refusal)
    assert isinstance(page, Respond) and page.status == 404
    assert (b"X-Hatchway-Problem", b"kubelet-paths") in page.headers
    text = page.body.decode()
    assert 'href="http://n1.node.dev.example.com/pods"' in text
    assert 'href="http://n1.node.dev.example.com/metrics/cadvisor"' in text
    # Scripts get this answer unchanged. For other targets, browsers get it unchanged, too.
    assert await refuse(await learning.ask(page=SCRIPT), *refusal) is None
    assert await refuse(await Learning().ask(), *refusal) is None


async def test_the_root_of_a_node_under_a_prefix_links_below_the_prefix() -> None:
    learning = Learning(target=Target("nodes", "n1"), prefix=b"/api/v1/nodes/n1/proxy")
    page = await refuse(await learning.ask(), 404, b"404 page not found\n")
    assert isinstance(page, Respond)
    assert 'href="/api/v1/nodes/n1/proxy/pods"' in page.body.decode()


async def test_a_door_that_browsers_reach_by_https() -> None:
    """The scheme is a setting of the door. Origin, redirects and the fields for the application depend on it."""
    learning = Learning(address=DoorAddress("dev.example.com", "https", 8001))
    origin = b"https://" + HOST + b":8001"
    forward = await learning.ask((b"Origin", origin), page=SCRIPT[:1])
    fields = dict(forward.headers)
    assert fields[b"X-Forwarded-Proto"] == b"https" and fields[b"Origin"] == origin
    head = ResponseHead(302, b"", [(b"Location", b"http://web.shop.svc.cluster.local/login")])
    assert forward.edit_response is not None
    forward.edit_response(head)
    assert head.headers == [(b"Location", origin + b"/login")]
