"""Handles refused requests: makes another attempt, answers with a page, or passes the refusal on.

A refusal may come from the API server or from the application. Both may be a reason for another attempt.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from hatchway.door.diagnosis import is_kubelets_not_found, status_of
from hatchway.door.hostheader import REFUSALS, UNCHALLENGED
from hatchway.door.knowledge import SAFE_METHODS
from hatchway.door.schemechoice import SchemeHint, scheme_hint, wants_tls
from hatchway.door.sitecontext import SiteContext
from hatchway.door.targetattempt import REPEATABLE_METHODS, FailedAttempt, Retry, TargetAttempt
from hatchway.proxy.routing import Forward, Respond, ResponseHead
from hatchway.target import Target

# Words in applications' refusals of a Host.
_SAYS_HOST = re.compile(rb"\bhosts?\b|host[-_ ]?(?:name|header)", re.I)
# Words in applications' refusals of an Origin or a Referer.
_SAYS_ORIGIN = re.compile(
    rb"\borigins?\b|cross[-_ ]?(?:site|origin|domain)|referr?er|\b[cx]srf|forgery|same[-_ ]?(?:site|origin)", re.I
)
# Words in applications' refusals of the user (a wrong password, a missing right).
_SAYS_PERSON = re.compile(
    rb"passwor|passphrase|credential|\blog(?:ged)?[-_ ]?[io]n\b|\bsign(?:ed)?[-_ ]?in\b|permission|expired|captcha"
    rb"|authenticat|unauthori[sz]ed|not authori[sz]ed|access denied",
    re.I,
)
# The number of bytes of a body that are searched.
_SEARCHED: Final = 4096
# The page of webpack-dev-server before version 4, with status 200.
_INVALID_HOST: Final = b"Invalid Host header"
# Misdirected Request: the application has not executed the request (RFC 9110 section 15.5.20).
_SAFE_TO_RESEND: Final = 421


def looks_like_refusal(head: ResponseHead, attempt: TargetAttempt) -> bool:
    """Return True when a response is or may be a refusal, so that its body must be read before it is passed on.

    A page with status 200 may be a refusal when it is very short. If its length is not known in advance, the door would
    have to wait for its end. It does so only behind a kube-apiserver, which itself reads a whole page before it passes
    the page on.
    """
    if head.status >= 400:
        return True
    length = head.header(b"content-length")
    if length is None:
        kind = head.header(b"content-type") or b""
        return head.status == 200 and kind.startswith(b"text/html") and not attempt.route.capabilities.unchanged
    return head.status == 200 and length.isdigit() and int(length) <= len(_INVALID_HOST) + 2


class RefusalHandler:
    """Decides about one response that looks like a refusal."""

    def __init__(self, context: SiteContext, attempt: TargetAttempt, head: ResponseHead) -> None:
        self._context = context
        self._attempt = attempt
        self._knowledge = context.knowledge
        self._status = head.status
        self._content_type = head.header(b"content-type")
        self._challenged = head.header(b"www-authenticate") is not None

    async def decide(self, body: bytes) -> Respond | Forward | None:
        """Return another attempt, an answer of the door, or None to pass the response on unchanged."""
        answer = Respond(self._status, [(b"Content-Type", self._content_type or b"text/plain")], body)
        if self._status < 400:
            refused = body.strip() == _INVALID_HOST and self._try_next_host()
            return self._retry() if refused else None
        status = status_of(self._content_type, body)
        if self._attempt.route.capabilities.transparent:
            status = None
        if status is not None and self._context.diagnosis.is_of_route(status, self._knowledge.current_target):
            return await self._refused_by_route(status, answer)
        return await self._refused_by_application(answer)

    # Refusals by the API server, or by an application that answers like an API server

    async def _refused_by_route(self, status: dict[str, Any], answer: Respond) -> Respond | Forward | None:
        attempt = self._attempt
        code = status.get("code")
        message = str(status.get("message") or "")
        if code == 401 and not attempt.renewed and await self._context.session.routes.renew():
            return self._retry(Retry(renewed=True, scheme=attempt.scheme, failed_attempt=attempt.failed_attempt))
        if code in (400, 404, 503):
            self._knowledge.expire()
            self._context.session.lookup.forget()
        if code in (500, 502, 503):
            hint = scheme_hint(message, attempt.scheme, upgrade=attempt.head.upgrade is not None)
            if attempt.failed_attempt is not None:
                return await self._both_schemes_failed(attempt.failed_attempt)
            repeatable = attempt.head.method in REPEATABLE_METHODS
            if hint is SchemeHint.WRONG or (hint is SchemeHint.PERHAPS and repeatable):
                other = self._knowledge.scheme.other(attempt.scheme)
                if other is not None:
                    return self._try_scheme(other, answer, status)
        return await self._explain(status, self._target_by(attempt.scheme))

    async def _both_schemes_failed(self, first: FailedAttempt) -> Respond:
        """Return the answer to the first attempt, which is more informative than the answer to the second."""
        self._knowledge.scheme.record_failure()
        if first.status is None:
            return first.answer
        return await self._explain(first.status, self._target_by(first.scheme)) or first.answer

    async def _explain(self, status: dict[str, Any], target: Target) -> Respond | None:
        """Return the API server's refusal as a page. Tools get a better message if there is one."""
        diagnosis, attempt = self._context.diagnosis, self._attempt
        if not attempt.sender.navigates:
            return await diagnosis.instead(status, target, attempt.head)
        both = self._knowledge.scheme.both_failed
        problem = await diagnosis.of_status(status, target, attempt.head, both=both)
        return diagnosis.answer(problem, attempt.head, html=True)

    def _target_by(self, scheme: str) -> Target:
        return replace(self._knowledge.current_target, scheme=scheme)

    # Refusals by the application

    async def _refused_by_application(self, answer: Respond) -> Respond | Forward | None:
        attempt, knowledge = self._attempt, self._knowledge
        if attempt.scheme != "https" and wants_tls(answer.status, answer.body):
            if attempt.failed_attempt is not None:
                return await self._both_schemes_failed(attempt.failed_attempt)
            if (other := knowledge.scheme.other(attempt.scheme)) is not None:
                return self._try_scheme(other, answer)
        if attempt.failed_attempt is not None:
            knowledge.switch_scheme(attempt.scheme)
        if attempt.head.method not in SAFE_METHODS:
            if self._learn_from_refused_write(answer):
                return self._retry()
        elif attempt.without_forwarded:
            knowledge.record_without_forwarded(attempt.sent_host, accepted=False)
        elif self._may_be_about_the_host(answer.body) and self._try_next_host():
            return self._retry()
        elif self._may_be_about_the_forwarded_host() and knowledge.host_choice.may_omit_forwarded:
            return self._retry(Retry(sent_host=knowledge.host_choice.without_forwarded))
        if answer.status == 401 and self._challenged and attempt.authorization is not None:
            return self._explain_lost_password()
        path = attempt.head.path[len(self._context.prefix) :]
        if attempt.sender.navigates and is_kubelets_not_found(knowledge.target, path, answer):
            root = self._context.url_of_port(knowledge.target).decode()
            problem = self._context.diagnosis.kubelet_paths(knowledge.target, root)
            return self._context.diagnosis.answer(problem, attempt.head, html=True)
        return None

    def _explain_lost_password(self) -> Respond | None:
        attempt, diagnosis = self._attempt, self._context.diagnosis
        if attempt.route.capabilities.authorization:
            return None
        why = "its password in the Authorization field, which the API server does not pass on"
        self._knowledge.record_need(why)
        problem = diagnosis.needs_forward(self._knowledge.current_target, why)
        return diagnosis.answer(problem, attempt.head, html=attempt.sender.navigates)

    def _may_be_about_an_address(self) -> bool:
        if self._attempt.head.method not in ("GET", "HEAD") or self._attempt.route.host is not None:
            return False
        return self._status in REFUSALS or (self._status == UNCHALLENGED and not self._challenged)

    def _may_be_about_the_host(self, body: bytes) -> bool:
        """Return True when the Host that was sent, or the Origin made from this Host, may be the reason of the refusal.

        Return True for navigations of the user and for WebSockets. For other requests, the body must mention the host.
        """
        attempt = self._attempt
        if not self._may_be_about_an_address():
            return False
        if attempt.sender.navigates or attempt.head.upgrade is not None:
            return True
        return attempt.host_value in body or _SAYS_HOST.search(body, 0, _SEARCHED) is not None

    def _may_be_about_the_forwarded_host(self) -> bool:
        """Return True when X-Forwarded-Host may differ from the host in Origin or Referer."""
        attempt = self._attempt
        return attempt.sent_host.forwarded and self._may_be_about_an_address() and attempt.sent_by_page

    def _learn_from_refused_write(self, answer: Respond) -> bool:
        """Choose another Host for later writes, if this write may have been refused for its Origin.

        Returns:
            True when this request may also be sent again, because the application says that it has not executed it.
        """
        attempt, body = self._attempt, answer.body
        if attempt.route.host is not None or answer.status not in REFUSALS or not attempt.sent_by_page:
            return False
        certain = _SAYS_ORIGIN.search(body, 0, _SEARCHED) is not None or answer.status == _SAFE_TO_RESEND
        is_validation = answer.status == 400 and b"json" in answer.headers[0][1].lower()
        if not certain and (_SAYS_PERSON.search(body, 0, _SEARCHED) or is_validation):
            return False
        return self._try_next_host(certain=certain) and certain

    # Other attempts

    def _try_next_host(self, *, certain: bool = False) -> bool:
        return self._knowledge.try_next_host(self._attempt.sent_host, self._attempt.head, certain=certain)

    def _try_scheme(self, scheme: str, answer: Respond, status: dict[str, Any] | None = None) -> Forward:
        failed = FailedAttempt(self._attempt.scheme, answer, status)
        return self._retry(Retry(scheme=scheme, failed_attempt=failed))

    def _retry(self, retry: Retry | None = None) -> Forward:
        return self._context.retry(self._attempt, retry or Retry())
