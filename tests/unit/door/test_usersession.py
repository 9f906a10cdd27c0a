"""Two users of one target: they share the facts about the target, but not cookies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from hatchway.door.address import DoorAddress
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.hostheader import HostState
from hatchway.door.knowledge import TargetKnowledge
from hatchway.door.targetsite import TargetSite
from hatchway.door.usersession import UserSession
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.proxy.routing import Forward, Peer, RequestHead, ResponseHead
from hatchway.route.contract import Route
from tests.unit.door.test_targetsite import HOST, NAVIGATION, WEB, ProxyVerb, Services, refuse


class User:
    """One user's site for a target."""

    def __init__(self, knowledge: TargetKnowledge) -> None:
        connection = cast(Connection, SimpleNamespace(trouble=None, context="test"))
        session = UserSession(connection, cast(Route, ProxyVerb()), "dev.example.com")
        session.lookup = cast(ObjectLookup, Services(("http", 80)))
        address = DoorAddress("dev.example.com")
        diagnosis = Diagnosis(connection, session.lookup, address)
        self.session = session
        self.site = TargetSite(knowledge, session, host=HOST, address=address, diagnosis=diagnosis)

    async def ask(self, *fields: tuple[bytes, bytes]) -> Forward:
        head = RequestHead("GET", b"/", b"/", None, [*NAVIGATION, *fields], "1.1", Peer(None, "http"))
        decision = self.site.route(head)
        found = decision if isinstance(decision, Forward) else await decision  # type: ignore[misc]
        assert isinstance(found, Forward)
        return found


async def test_two_users_share_facts_about_the_target_and_nothing_else() -> None:
    knowledge = TargetKnowledge(WEB, HOST, host_option="auto")
    ada, eve = User(knowledge), User(knowledge)
    # Ada's requests find out which Host the application accepts. The application sets a cookie in her browser.
    accepted = await refuse(await ada.ask(), 403, b"Forbidden host")
    assert isinstance(accepted, Forward) and accepted.edit_response is not None
    accepted.edit_response(ResponseHead(200, b"", [(b"Set-Cookie", b"sid=ada")]))
    assert knowledge.host_choice.state is HostState.ACCEPTED
    # Eve's first request has that Host already; her cookie jar does not have Ada's cookie.
    assert (await eve.ask()).headers[0] == (b"Host", b"localhost")
    assert ada.session.cookies_of(HOST).admit(b"sid=ada").passed == b"sid=ada"
    assert eve.session.cookies_of(HOST).admit(b"sid=ada").unknown == (b"sid",)


def test_a_session_keeps_one_jar_for_a_host() -> None:
    session = UserSession(cast(Connection, None), cast(Route, None), "localhost")
    jar = session.cookies_of(b"a.x.svc.localhost")
    assert session.cookies_of(b"a.x.svc.localhost") is jar
    for number in range(1024):
        session.cookies_of(b"%d.x.svc.localhost" % number)
    assert session.cookies_of(b"a.x.svc.localhost") is not jar, "the number of jars is bounded"
