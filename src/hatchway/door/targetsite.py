"""Routes the requests for one target, under its own host name or under a path prefix.

The guard checks each request, and the request's cookies are filtered. Then a `Forward` is made from the facts about the
target (`knowledge.py`) and the user (`usersession.py`). `targetexchange.py` handles the exchange itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from hatchway.door.address import DoorAddress
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.guard import Sender
from hatchway.door.hostheader import HostState
from hatchway.door.knowledge import TargetKnowledge
from hatchway.door.sitecontext import SiteContext
from hatchway.door.targetattempt import Retry, TargetAttempt
from hatchway.door.targetexchange import TargetExchange
from hatchway.door.usersession import UserSession
from hatchway.errors import HatchwayError
from hatchway.proxy.routing import CachedDecision, Decision, Forward, Headers, RequestHead, Respond
from hatchway.rewrite.location import collapse_path
from hatchway.route.chooser import RouteChoice

# Unknown cookies are not challenged (`cookiejar.py`) when the request has a larger body (bytes): the browser would send
# the body twice.
_SMALL_BODY: Final = 64 * 1024
# The maximum number of cookies in a request; browsers send some hundreds at most.
_MAX_COOKIES: Final = 4096
_WORKERS: Final = frozenset((b"worker", b"sharedworker", b"serviceworker"))
_DOT_SEGMENT = re.compile(rb"/(?:\.|%2[eE])")
_FIRST_ATTEMPT: Final = Retry()


class TargetSite:
    """Routes one user's requests for one target.

    knowledge: the facts about the target.
    """

    def __init__(
        self,
        knowledge: TargetKnowledge,
        session: UserSession,
        *,
        host: bytes,
        prefix: bytes = b"",
        address: DoorAddress,
        diagnosis: Diagnosis,
    ) -> None:
        """Store the arguments.

        Args:
            knowledge: the facts about the target, which other sites may share.
            session: the user who sends the requests.
            host: the host name under which the target is shown, without a port, in lower case.
            prefix: the path under which it is shown, without a slash at its end; b"" under a host name of its own.
            address: the address at which browsers reach the door.
            diagnosis: makes the door's own answers.
        """
        self.knowledge = knowledge
        self._session = session
        self._routes = session.routes
        self._prefix = prefix
        self._address = address
        self._diagnosis = diagnosis
        self._cookies = session.cookies_of(host)
        self._context = SiteContext(knowledge, session, self._cookies, diagnosis, address, prefix, self._forward_again)

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        """Return the decision for a request; an awaitable when the target must be looked up first."""
        sender = Sender.of(head)
        host = head.header(b"host") or b""
        if sender.is_foreign(head, self._address.origin(host)):
            why = f"{sender.description} requested {host.decode('latin-1')}"
            return self._diagnosis.refused(why, head, html=sender.navigates)
        knowledge = self.knowledge
        if knowledge.is_fresh:
            assert knowledge.resolved is not None
            choice = self._routes.choice(knowledge.resolved.target)
            if choice is not None:
                return self._decide(head, sender, choice)
        return self._prepare(head, sender)

    async def _prepare(self, head: RequestHead, sender: Sender) -> Decision:
        try:
            await self.knowledge.refresh(self._session.lookup)
            assert self.knowledge.resolved is not None
            choice = await self._routes.prepare(self.knowledge.resolved.target)
        except HatchwayError as error:
            return self._diagnosis.failed(error, head, html=sender.navigates)
        return self._decide(head, sender, choice)

    def _decide(self, head: RequestHead, sender: Sender, choice: RouteChoice) -> Decision:
        resolved = self.knowledge.resolved
        assert resolved is not None
        if choice.route is None:
            return self._diagnosis.no_route(resolved.target, choice, head, html=sender.navigates)
        if resolved.no_http and sender.navigates:
            problem = self._diagnosis.needs_forward(resolved.target, f"a protocol that is not HTTP: {resolved.no_http}")
            return self._diagnosis.answer(problem, head, html=True)
        field = b"; ".join(value for name, value in head.headers if name.lower() == b"cookie")
        left_out = False
        if field and sender.is_browser and not self._prefix:
            if field.count(b";") > _MAX_COOKIES:
                return self._diagnosis.too_large("too many cookies", head, html=sender.navigates)
            admitted = self._cookies.admit(field)
            if admitted.unknown and _may_be_sent_twice(head, sender):
                challenge = self._challenge(head, field, admitted.unknown)
                if challenge is not None:
                    return challenge
            field = admitted.passed
            left_out = bool(admitted.unknown)
        found = self._forward(head, sender, field, _FIRST_ATTEMPT)
        # A decision that has left out an unknown cookie is not cached: once the cookie is known, a request with the
        # same head must be sent with it.
        if not left_out:
            head.cached = _SiteDecision(self.knowledge, self._session, choice, found)
        return found

    def _challenge(self, head: RequestHead, field: bytes, unknown: tuple[bytes, ...]) -> Respond | None:
        """Return the redirect that challenges unknown cookies (`cookiejar.py`); None when that is impossible."""
        set_cookies = self._cookies.challenge(field, unknown, head.path)
        if not set_cookies:
            return None
        # An absolute URL, because a path that begins with two slashes would mean another host.
        here = self._address.origin(head.header(b"host") or b"") + head.target
        fields: Headers = [(b"Location", here), (b"Cache-Control", b"no-store")]
        return Respond(307, fields + [(b"Set-Cookie", value) for value in set_cookies])

    def _forward_again(self, attempt: TargetAttempt, retry: Retry) -> Forward:
        """Return the decision for another attempt, from the present facts."""
        return self._forward(attempt.head, attempt.sender, attempt.cookie, retry)

    def _forward(self, head: RequestHead, sender: Sender, cookie: bytes, retry: Retry) -> Forward:
        """Return the decision for a request, from the present facts."""
        knowledge = self.knowledge
        assert knowledge.resolved is not None
        scheme = knowledge.scheme.value if retry.scheme is None else retry.scheme
        target = knowledge.resolved.target
        route = self._routes.route_to(target if target.scheme == scheme else replace(target, scheme=scheme))
        sent_host = retry.sent_host or knowledge.host_choice_for(head).value
        outer = head.header(b"host") or b""
        attempt = TargetAttempt(
            head,
            sender,
            cookie,
            outer,
            route,
            scheme,
            sent_host,
            route.host or sent_host.host or outer,
            retry.sent_host is not None,
            retry.renewed,
            retry.failed_attempt,
            head.header(b"authorization"),
        )
        exchange = TargetExchange(self._context, attempt)
        is_open = knowledge.host_choice.state is HostState.OPEN
        return Forward(
            route.upstream,
            route.prefix + self._path(head),
            exchange.request_fields(),
            exchange.error_response,
            exchange.edit_response,
            reconsider=exchange.reconsider,
            explain_error=exchange.explain_error,
            reconsider_all=sender.navigates and retry.sent_host is None and is_open,
            switched=exchange.switched if head.upgrade is not None else None,
        )

    def _path(self, head: RequestHead) -> bytes:
        """Return the path and the query for the application."""
        start = len(self._prefix)
        if _DOT_SEGMENT.search(head.path):
            # Normalize the path, so that no program between the door and the API server changes it to another path.
            return collapse_path(head.path[start:]) + (b"?" + head.query if head.query is not None else b"")
        path = head.target[start:]
        # For a WebSocket, `.../proxy` means the application's root, because a WebSocket cannot be redirected.
        return path if path[:1] == b"/" else b"/" + path


class _SiteDecision(CachedDecision):
    """The cached decision for a request to a site's target; valid until the facts about the target change."""

    __slots__ = ("_connection", "_forward", "_generation", "_knowledge", "_routes", "_valid_until", "_version")

    def __init__(self, knowledge: TargetKnowledge, session: UserSession, choice: RouteChoice, forward: Forward) -> None:
        self._knowledge = knowledge
        self._version = knowledge.version
        self._routes = session.routes
        self._generation = session.routes.generation
        self._valid_until = choice.valid_until
        self._connection = session.connection
        self._forward = forward

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision | None:
        # The route was ready when this decision was made. It stays ready as long as its generation is the same and the
        # credentials are valid.
        knowledge, connection = self._knowledge, self._connection
        if (
            knowledge.version == self._version
            and self._routes.generation == self._generation
            and connection.trouble is None
            and (now := time.monotonic()) < knowledge.valid_until
            and now < self._valid_until
            and time.time() < connection.fresh_until
        ):
            return self._forward
        return None


def _may_be_sent_twice(head: RequestHead, sender: Sender) -> bool:
    if head.upgrade is not None or sender.dest in _WORKERS:
        return False
    length = head.header(b"content-length")
    if head.header(b"transfer-encoding") is not None:
        return False
    return length is None or int(length) <= _SMALL_BODY
