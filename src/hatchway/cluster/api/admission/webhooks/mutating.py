"""The admission plugin MutatingAdmissionWebhook (`pkg/admission/plugin/webhook/mutating/dispatcher.go`).

Webhooks are called one after the other. Each webhook gets the object that the previous call returned. When a webhook
has changed the object, all mutating plugins run once more. Webhooks with `reinvocationPolicy: IfNeeded` are called a
second time if the object has changed since their call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

import msgspec

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.reinvocation import Reinvocation
from hatchway.cluster.api.admission.webhooks.configurations import Webhook
from hatchway.cluster.api.admission.webhooks.matching import Invocation
from hatchway.cluster.api.admission.webhooks.patching import apply_response
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

__all__ = ["MutatingWebhooks"]

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_PREFIX = "mutation.webhook.admission.k8s.io"
_FAILED_OPEN = "failed-open.mutation.webhook.admission.k8s.io"


class MutatingWebhooks(WebhookPlugin):
    """Calls mutating webhooks. source: their configurations."""

    name = "MutatingAdmissionWebhook"

    def admit(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Let the matching webhooks change the object. Raises ApiError when a webhook denies the request or fails."""
        hooks = self._source.hooks()
        if not hooks:
            return None
        found = self._matcher.candidates(hooks, attributes)
        # Selectors depend on labels. Only calls change labels, so if no selector matches now, no call is needed.
        if not any(self._matcher.is_selected(one.hook, attributes) for one in found):
            return None
        return self._dispatch(found, attributes)

    async def _dispatch(self, found: list[Invocation], attributes: AdmissionAttributes) -> None:
        attributes.state = attributes.state or {}
        known: Reinvocation = attributes.state.setdefault(self.name, Reinvocation())
        again = attributes.is_reinvocation
        if again and await self._output(attributes) != known.output:
            known.require()
        try:
            async with asyncio.timeout(LONGEST_ADMISSION):
                for index, invocation in enumerate(found):
                    hook = invocation.hook
                    if (again and hook.uid not in known.due) or not self._matcher.is_selected(hook, attributes):
                        continue
                    if not await self._matcher.meets_conditions(invocation, attributes):
                        continue
                    changed = await self._invoke(invocation, attributes, f"round_{int(again)}_index_{index}")
                    if changed:
                        known.require()
                        attributes.reinvoke = True
                    if hook.is_reinvocable:
                        known.invoked.add(hook.uid)
        except TimeoutError:
            raise out_of_time() from None
        if attributes.reinvoke and not again:
            known.output = await self._output(attributes)

    @staticmethod
    async def _output(attributes: AdmissionAttributes) -> bytes:
        return await run_sized(attributes.size, _encode, attributes.object)

    async def _invoke(self, invocation: Invocation, attributes: AdmissionAttributes, key: str) -> bool:
        """Call one webhook. Return True when it has changed the object. Raises ApiError."""
        hook = invocation.hook
        changed = False
        try:
            objects = await versioned_objects(invocation.row, attributes)
            uid, review = await run_sized(attributes.size, make_review, invocation, attributes, objects)
            body = await self._caller.call(hook, review, attributes.size)
            response = await run_sized(len(body), decode_response, body, hook, uid, mutating=True)
            attributes.audit_annotations |= response.kept_annotations(hook)
            attributes.warnings += response.kept_warnings()
            if not response.allowed:
                raise refusal(hook, response.status)
            changed = await apply_response(invocation, attributes, response, objects.object)
        except CallFailed as error:
            if not hook.fails_open:
                raise calling_failed(hook, error) from None
            _log.warning("failed calling webhook, failing open: %s: %s", hook.name, error)
            attributes.audit_annotations[f"{_FAILED_OPEN}/{key}"] = hook.name
        finally:
            attributes.audit_annotations[f"{_PREFIX}/{key}"] = _describe(hook, mutated=changed)
        return changed


def _describe(hook: Webhook, *, mutated: bool) -> str:
    """Return the value of the audit annotation about a call (`mutationAnnotationValue`)."""
    return _encode({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated}).decode()
