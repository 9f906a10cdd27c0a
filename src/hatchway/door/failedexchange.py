"""Handles an exchange that got no answer, on routes where answers come only from the application (port-forward)."""

from __future__ import annotations

from dataclasses import replace

from hatchway.door.schemechoice import SchemeHint, scheme_hint
from hatchway.door.sitecontext import SiteContext
from hatchway.door.targetattempt import REPEATABLE_METHODS, FailedAttempt, Retry, TargetAttempt
from hatchway.proxy.routing import Forward, ProxyError, Respond
from hatchway.route.contract import TargetUnreached


async def explain_failure(context: SiteContext, attempt: TargetAttempt, error: ProxyError) -> Respond | Forward:
    """Record the failure. Return an attempt with the other scheme if this may help, else an answer with the reason."""
    knowledge, diagnosis = context.knowledge, context.diagnosis
    target = replace(knowledge.current_target, scheme=attempt.scheme)
    html = attempt.sender.navigates
    cause = error.__cause__
    if isinstance(cause, TargetUnreached):
        knowledge.expire()
        context.session.lookup.forget()
        context.session.routes.forget(target)
        problem = await diagnosis.of_unreached(cause, target)
        return diagnosis.answer(problem, attempt.head, html=html)
    if attempt.failed_attempt is not None:
        # The error of the first attempt is more informative than the error of the second attempt.
        knowledge.scheme.record_failure()
        return attempt.failed_attempt.answer
    both = knowledge.scheme.both_failed
    problem = await diagnosis.of_failure(error, target, both=both)
    answer = diagnosis.answer(problem, attempt.head, html=html)
    hint = scheme_hint(error.message, attempt.scheme, upgrade=True)
    repeatable = attempt.head.method in REPEATABLE_METHODS
    if hint is SchemeHint.WRONG or (hint is SchemeHint.PERHAPS and repeatable):
        other = knowledge.scheme.other(attempt.scheme)
        if other is not None:
            return context.retry(
                attempt, Retry(scheme=other, failed_attempt=FailedAttempt(attempt.scheme, answer, None))
            )
    return answer
