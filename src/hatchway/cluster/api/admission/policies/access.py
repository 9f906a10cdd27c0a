"""Gets the authorizer's decisions for expressions, which are evaluated on a thread.

The authorizer must be called in the event loop. As in Kubernetes (apiserver
`pkg/admission/plugin/authorizer/caching_authorizer.go`), a decision is cached for the duration of one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from hatchway.cluster.api.registry.custom.celauthorization import AccessUnknown
from hatchway.cluster.auth.rbac import AccessDecision
from hatchway.cluster.auth.user import Attributes

__all__ = ["Decide", "LoopAccess"]

# Decides whether a request is allowed. Must be called in the event loop.
Decide = Callable[[Attributes], AccessDecision]

# The maximum number of different decisions for the expressions of all policies in one write. The cost limit of one
# expression allows two.
_MOST_QUESTIONS = 1000
# Seconds that an expression waits for a decision, at most. (The event loop may be busy.)
_PATIENCE = 30
_SHUT_DOWN = "the server is shutting down"


class LoopAccess:
    """Returns the authorizer's decisions for the expressions of one write.

    Must be created in the event loop, and called on a thread.

    decide: the authorizer.
    """

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._loop = asyncio.get_running_loop()
        self._known: dict[tuple[Any, ...], AccessDecision] = {}

    def __call__(self, asked: Attributes) -> AccessDecision:
        """Return the authorizer's decision. Raises AccessUnknown when there is no decision in time."""
        user = asked.user
        what = (asked.verb, asked.resource, asked.subresource, asked.api_group, asked.namespace, asked.name, asked.path)
        key = (user.name, user.groups, asked.fields, *what)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_QUESTIONS:
                raise AccessUnknown(f"the authorizer has been asked {_MOST_QUESTIONS} questions for this request")
            found = self._known[key] = self._ask(asked)
        return found

    def _ask(self, asked: Attributes) -> AccessDecision:
        answer: Future[AccessDecision] = Future()

        def decide() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(self._decide(asked))
            except Exception as error:  # noqa: BLE001  raised again in the waiting thread
                answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(decide)
        except RuntimeError:
            raise AccessUnknown(_SHUT_DOWN) from None
        for _ in range(_PATIENCE):
            try:
                return answer.result(1.0)
            except TimeoutError:
                if self._loop.is_closed():
                    raise AccessUnknown(_SHUT_DOWN) from None
        answer.cancel()
        raise AccessUnknown("the authorizer did not answer in time")
