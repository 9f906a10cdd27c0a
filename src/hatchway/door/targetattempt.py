"""One attempt to send a browser's request to a target, with all choices for this attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from hatchway.door.guard import Sender
from hatchway.door.hostheader import SentHost
from hatchway.proxy.routing import RequestHead, Respond
from hatchway.route.contract import TargetRoute

# A safe subset of the idempotent methods of RFC 9110, 9.2.2: requests with these methods may be sent again even if the
# application may have executed the first request.
REPEATABLE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt with the other scheme. Its answer is used if the attempt that follows fails, too.

    scheme: the scheme of the failed attempt.
    answer: the answer of the failed attempt.
    status: the API server's `Status`; None when the application itself has answered.
    """

    scheme: str
    answer: Respond
    status: dict[str, Any] | None


@dataclass(slots=True)
class TargetAttempt:
    """A request, and how it is sent in this attempt. Never changed after it was made.

    head: the head of the browser's request.
    sender: the sender, as the request's header fields describe it.
    cookie: the value of Cookie for the target; b"" for none.
    outer: the `Host` of the browser's request.
    route: the route to the target.
    scheme: the scheme for the target: "https" for HTTPS; every other value means HTTP.
    sent_host: the choice of Host for this attempt.
    host_value: the resulting value of Host.
    without_forwarded: True when X-Forwarded-* fields are left out although `sent_host.forwarded` is True.
    renewed: True when the credentials were renewed for this attempt.
    failed_attempt: the attempt with the other scheme before this one; None if there was none.
    authorization: the client's Authorization.
    """

    head: RequestHead
    sender: Sender
    cookie: bytes
    outer: bytes
    route: TargetRoute
    scheme: str
    sent_host: SentHost
    host_value: bytes
    without_forwarded: bool
    renewed: bool
    failed_attempt: FailedAttempt | None
    authorization: bytes | None

    @property
    def sent_by_page(self) -> bool:
        """Return True when Origin or Referer shows that a page has sent the request."""
        return any(name.lower() in (b"origin", b"referer") for name, _ in self.head.headers)


@dataclass(slots=True)
class Retry:
    """The differences between the present attempt and the next attempt.

    renewed: True when the credentials were renewed for the next attempt.
    sent_host: a Host to send instead of the chosen Host; None for no change.
    scheme: a scheme to use instead of the present scheme; None for no change.
    failed_attempt: the attempt that has failed with the other scheme; None if there was none.
    """

    renewed: bool = False
    sent_host: SentHost | None = None
    scheme: str | None = None
    failed_attempt: FailedAttempt | None = None
