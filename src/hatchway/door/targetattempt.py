"""One attempt to send a browser's request to a target, with all choices for this attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hatchway.door.guard import Sender
from hatchway.door.hostheader import SentHost
from hatchway.proxy.routing import RequestHead, Respond
from hatchway.route.contract import TargetRoute

# Methods whose requests may be sent again even if the application may have executed the first one (RFC 9110, 9.2.2).
REPEATABLE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """The earlier attempt with the other scheme, whose answer is used when this attempt fails, too.

    scheme: the scheme of that attempt.
    answer: its answer.
    status: the API server's `Status`; None when the application itself has answered.
    """

    scheme: str
    answer: Respond
    status: dict[str, Any] | None


@dataclass(slots=True)
class TargetAttempt:
    """A request, and how it is sent in this attempt. Never changed after it was made.

    head, sender: the browser's request.
    cookie: the value of Cookie for the target; b"" for none.
    outer: the `Host` of the browser's request.
    route: the route to the target.
    scheme: the scheme for the target: "https", or another value for HTTP.
    sent_host: the choice of Host for this attempt.
    host: the resulting value of Host.
    without_forwarded: True when this attempt leaves out X-Forwarded-* fields although the choice has them.
    renewed: True when the credentials were renewed for this attempt.
    failed: the attempt with the other scheme before it; None without one.
    authorization: the client's Authorization.
    """

    head: RequestHead
    sender: Sender
    cookie: bytes
    outer: bytes
    route: TargetRoute
    scheme: str
    sent_host: SentHost
    host: bytes
    without_forwarded: bool
    renewed: bool
    failed: FailedAttempt | None
    authorization: bytes | None

    @property
    def is_browser_page(self) -> bool:
        """Return True when Origin or Referer shows that a page sends the request."""
        return any(name.lower() in (b"origin", b"referer") for name, _ in self.head.headers)


@dataclass(slots=True)
class Retry:
    """The differences between the present attempt and the next one.

    renewed: the credentials were renewed for the next attempt.
    sent_host: a Host to send instead of the chosen one.
    scheme: a scheme to use instead of the present scheme.
    failed: the attempt that has failed with the other scheme; None without one.
    """

    renewed: bool = False
    sent_host: SentHost | None = None
    scheme: str | None = None
    failed: FailedAttempt | None = None
