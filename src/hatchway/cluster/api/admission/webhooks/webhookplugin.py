"""The common part of the two webhook plugins (mutating and validating): the writes that they handle, and errors."""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.webhooks.caller import WebhookCaller
from hatchway.cluster.api.admission.webhooks.configurations import Webhook, WebhookSource
from hatchway.cluster.api.admission.webhooks.matching import WebhookMatcher, is_exempt
from hatchway.cluster.api.admission.webhooks.review import CallFailed
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.validation import quote
from hatchway.errors import ApiError, internal

__all__ = ["LONGEST_ADMISSION", "WebhookPlugin", "calling_failed", "out_of_time"]

# Seconds that all webhooks together may take for one phase of one write (apiserver's `--request-timeout`).
LONGEST_ADMISSION = 60.0


class WebhookPlugin(AdmissionPlugin):
    """An admission plugin that calls webhooks. source: the webhooks. caller: sends the reviews."""

    def __init__(self, source: WebhookSource, matcher: WebhookMatcher, caller: WebhookCaller) -> None:
        self._source = source
        self._matcher = matcher
        self._caller = caller

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for all writes except writes of webhook configurations and policies."""
        return not is_exempt(resource)

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True when there is any webhook."""
        return bool(self._source.hooks())


def calling_failed(hook: Webhook, error: CallFailed) -> ApiError:
    """Return an error 500 for a webhook that gave no valid response (`ErrCallingWebhook`)."""
    return internal(f"failed calling webhook {quote(hook.name)}: {error}")


def out_of_time() -> ApiError:
    """Return an error 504 for a write whose webhooks together take too long."""
    message = "Timeout: request did not complete within requested timeout"
    return ApiError(504, "Timeout", message, {})
