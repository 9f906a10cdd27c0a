"""The admission plugin ValidatingAdmissionWebhook (`pkg/admission/plugin/webhook/validating/dispatcher.go`).

All matching webhooks are called at the same time. The first error is returned to the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.webhooks.matching import Invocation
from hatchway.cluster.api.admission.webhooks.review import (
    CallFailed,
    decode_response,
    make_review,
    refusal,
    versioned_objects,
)
from hatchway.cluster.api.admission.webhooks.webhookplugin import (
    LONGEST_ADMISSION,
    WebhookPlugin,
    calling_failed,
    out_of_time,
)
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError

__all__ = ["ValidatingWebhooks"]

_log = logging.getLogger(__name__)
_FAILED_OPEN = "failed-open.validating.webhook.admission.k8s.io"
# The maximum number of webhooks that are called at the same time for one write.
_AT_ONCE = 32


class ValidatingWebhooks(WebhookPlugin):
    """Calls validating webhooks. source: their configurations."""

    name = "ValidatingAdmissionWebhook"

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Call the matching webhooks. Raises ApiError when a webhook denies the request or fails."""
        hooks = self._source.hooks()
        if not hooks:
            return None
        found = self._matcher.candidates(hooks, attributes)
        selected = [one for one in found if self._matcher.is_selected(one.hook, attributes)]
        return self._dispatch(selected, attributes) if selected else None

    async def _dispatch(self, selected: list[Invocation], attributes: AdmissionAttributes) -> None:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def ask(index: int, invocation: Invocation) -> ApiError | None:
            async with turns:
                return await self._ask(index, invocation, attributes)

        try:
            async with asyncio.timeout(LONGEST_ADMISSION), asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(index, one)) for index, one in enumerate(selected)]
        except TimeoutError:
            raise out_of_time() from None
        for task in tasks:
            if (error := task.result()) is not None:
                raise error

    async def _ask(self, index: int, invocation: Invocation, attributes: AdmissionAttributes) -> ApiError | None:
        """Call one webhook. Return the error for the client, or None when the webhook allows the request."""
        hook = invocation.hook
        try:
            if not await self._matcher.meets_conditions(invocation, attributes):
                return None
            objects = await versioned_objects(invocation.row, attributes)
        except ApiError as error:
            return error
        try:
            uid, review = await run_sized(attributes.size, make_review, invocation, attributes, objects)
            body = await self._caller.call(hook, review, attributes.size)
            response = await run_sized(len(body), decode_response, body, hook, uid, mutating=False)
        except CallFailed as error:
            if not hook.fails_open:
                return calling_failed(hook, error)
            _log.warning("failed calling webhook, failing open: %s: %s", hook.name, error)
            attributes.audit_annotations[f"{_FAILED_OPEN}/round_0_index_{index}"] = hook.name
            return None
        attributes.audit_annotations |= response.kept_annotations(hook)
        attributes.warnings += response.kept_warnings()
        return None if response.allowed else refusal(hook, response.status)
