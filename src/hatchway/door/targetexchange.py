"""One exchange with a target: edits the response for the browser, and learns facts about the target from it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hatchway.door import urlfields
from hatchway.door.diagnosis import NOT_REACHED
from hatchway.door.failedexchange import explain_failure
from hatchway.door.hostheader import REFUSALS, UNCHALLENGED
from hatchway.door.knowledge import SAFE_METHODS
from hatchway.door.refusal import RefusalHandler, looks_like_refusal
from hatchway.door.requestfields import request_fields
from hatchway.door.sitecontext import SiteContext
from hatchway.door.targetattempt import TargetAttempt
from hatchway.proxy.routing import Forward, Headers, ProxyError, Reconsider, Respond, ResponseHead, Transform
from hatchway.rewrite.ownaddress import OwnAddressRewriter
from hatchway.rewrite.unprefix import Unprefixer
from hatchway.rewrite.urlrules import UnprefixRule

if TYPE_CHECKING:
    from hatchway.rewrite.prefix import PrefixRewriter

# The Cache-Control value that a kube-apiserver adds to a response, before the application's own value.
_CACHE_CONTROL: Final = b"no-cache, private"


class TargetExchange:
    """The exchange of one attempt. Its methods are the callbacks of a `Forward`."""

    __slots__ = ("_attempt", "_context", "_rewriter")

    def __init__(self, context: SiteContext, attempt: TargetAttempt) -> None:
        self._context = context
        self._attempt = attempt
        self._rewriter: PrefixRewriter | None = None
        if context.prefix:
            # Imported here because it takes longer to import than the rest of the door.
            from hatchway.rewrite.prefix import PrefixRewriter

            self._rewriter = PrefixRewriter(
                context.prefix,
                attempt.outer,
                attempt.host_value,
                other_hosts=context.knowledge.spellings(attempt.outer),
            )

    def request_fields(self) -> Headers:
        """Return the fields of the request for the route."""
        return request_fields(self._context, self._attempt, self._rewriter)

    # Errors

    def error_response(self, error: ProxyError) -> Respond:
        """Return the answer to a request for which the API server could not be reached."""
        return self._context.diagnosis.away(error, self._attempt.head, html=self._attempt.sender.navigates)

    def explain_error(self, error: ProxyError) -> Awaitable[Respond | Forward] | None:
        """Return the decision about an aborted exchange; None when the API server was not reached at all."""
        if self._attempt.route.capabilities.transparent:
            return explain_failure(self._context, self._attempt, error)
        if error.stage in NOT_REACHED:
            return None
        attempt = self._attempt
        target = replace(self._context.knowledge.current_target, scheme=attempt.scheme)
        return self._context.diagnosis.broken(error, target, attempt.head, html=attempt.sender.navigates)

    def reconsider(self, head: ResponseHead) -> Reconsider | None:
        """Return the function that decides about a refusal once its body has arrived; None for other responses."""
        if not looks_like_refusal(head, self._attempt):
            return None
        return RefusalHandler(self._context, self._attempt, head).decide

    # Responses

    def switched(self) -> None:
        """Record an accepted upgrade."""
        if self._attempt.failed_attempt is not None:
            self._context.knowledge.switch_scheme(self._attempt.scheme)
        self._context.knowledge.record_accepted(self._attempt.sent_host, self._attempt.head)

    def edit_response(self, head: ResponseHead) -> Transform | None:
        """Edit the head of a response for the browser and return a transform for its body, if it needs one."""
        context, attempt = self._context, self._attempt
        if context.session.connection.trouble is not None:
            context.session.connection.note(None)
        if attempt.failed_attempt is not None:
            context.knowledge.switch_scheme(attempt.scheme)
        self._record_status(head.status)
        redirects = attempt.sender.navigates and 300 <= head.status < 400
        reload = redirects and (self._adopt_own_host(head) or self._adopt_https(head))
        headers, other_port = self._edit_fields(head, reload=reload)
        head.headers = headers
        if attempt.head.upgrade is not None:
            return None
        if self._rewriter is not None:
            transform = self._rewriter.edit_response(head.status, headers)
            headers += other_port
            return transform
        prefix = self._route_prefix
        transform = self._own_rewriter(prefix).edit_response(head.status, headers)
        if transform is None and prefix:
            return Unprefixer(prefix, (attempt.outer, attempt.host_value)).edit_response(head.status, headers)
        return transform

    def _edit_fields(self, head: ResponseHead, *, reload: bool) -> tuple[Headers, Headers]:
        """Return a response's fields for the browser, and separately a `Location` that leads to another port.

        Under a path prefix, this `Location` already has the prefix of the other port.

        reload: True when the browser must request the same address again, so that it must not cache the response.
        """
        context = self._context
        headers: Headers = []
        other_port: Headers = []
        removed = False
        for name, value in head.headers:
            lower = name.lower()
            if lower in urlfields.RESPONSE_FIELDS:
                found = urlfields.outer_field(lower, value, self._outer_url)
                if context.prefix and lower == b"location" and found != value and found[:1] == b"/":
                    other_port.append((name, found))
                    continue
                value = found
            elif lower == b"set-cookie" and not context.prefix:
                value = context.cookies.record_set_cookie(value)
            elif lower == b"cache-control" and ((not removed and value == _CACHE_CONTROL) or reload):
                removed = True
                continue
            elif lower == b"x-hatchway-rewrite":
                continue
            headers.append((name, value))
        if reload:
            headers.append((b"Cache-Control", b"no-store"))
        return headers, other_port

    @property
    def _route_prefix(self) -> bytes:
        """Return the path that the API server may have put before the application's path; b"" when it puts none."""
        route = self._attempt.route
        return b"" if route.capabilities.unchanged or self._context.prefix else route.prefix

    def _own_rewriter(self, prefix: bytes) -> OwnAddressRewriter:
        """Return the rewriter for a page, a script or a style sheet under the target's own host name."""
        attempt, knowledge = self._attempt, self._context.knowledge
        undo = UnprefixRule(prefix, (attempt.outer, attempt.host_value)) if prefix else None

        def rule(value: bytes) -> bytes:
            found = value if undo is None else undo(value)
            # Nearly all URLs are relative and need no change.
            if b"//" not in found[:8]:
                return found
            found = self._outer_url(found)
            return b"ws" + found[4:] if found[:4] == b"http" and value[:2].lower() == b"ws" else found

        return OwnAddressRewriter(
            rule,
            knowledge.text_rewriter(attempt.outer),
            destination=attempt.sender.dest,
            page=attempt.sender.navigates,
            names_itself=knowledge.names_itself,
            marks=(prefix,) if prefix else (),
        )

    def _outer_url(self, value: bytes) -> bytes:
        attempt, context = self._attempt, self._context
        return urlfields.outer_url(
            value,
            outer=attempt.outer,
            origin_of=context.address.origin,
            sent=attempt.host_value,
            addresses=context.knowledge.addresses,
            prefix=self._route_prefix,
            url_of_port=context.url_of_port,
        )

    # Conclusions from a response

    def _record_status(self, status: int) -> None:
        """Record that the application accepts the Host, if the status of its response shows this."""
        knowledge, attempt = self._context.knowledge, self._attempt
        if attempt.without_forwarded:
            if status < 400:
                knowledge.record_without_forwarded(attempt.sent_host, accepted=True)
        elif attempt.head.method not in SAFE_METHODS:
            if status < 500 and status not in REFUSALS and status != UNCHALLENGED and attempt.sent_by_page:
                knowledge.record_accepted(attempt.sent_host, attempt.head)
        elif status < 400 and attempt.sender.navigates:
            knowledge.record_accepted(attempt.sent_host, attempt.head)

    def _adopt_own_host(self, head: ResponseHead) -> bool:
        """Send the target's own host name at the door from now on, if the response redirects to it (WordPress).

        Returns:
            True when the same request would now get another answer.
        """
        found = urlfields.authority_of(head.header(b"location") or b"")
        return (
            bool(found)
            and found == self._context.knowledge.own_host_name
            and self._context.knowledge.prefer_host(found)
        )

    def _adopt_https(self, head: ResponseHead) -> bool:
        """Send `X-Forwarded-Proto: https` from now on, if the response redirects to the same address by HTTPS.

        Returns:
            True when the same request would now get another answer.
        """
        context, request = self._context, self._attempt.head
        location = head.header(b"location") or b""
        if location[:6].lower() != b"https:" or request.method not in ("GET", "HEAD"):
            return False
        if context.address.scheme == "https":
            return False
        here = context.address.origin(self._attempt.outer)
        # A kube-apiserver may have put the prefix before the path.
        same = (here + request.target, here + request.target[len(context.prefix) :])
        return self._outer_url(location).partition(b"#")[0] in same and context.knowledge.answer_https_demand()
