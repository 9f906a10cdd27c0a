"""Calls admission webhooks: sends an AdmissionReview by POST. Errors have client-go's texts."""

from __future__ import annotations

import msgspec

from hatchway.cluster.api.admission.webhooks.configurations import Webhook
from hatchway.cluster.api.admission.webhooks.review import CallFailed
from hatchway.cluster.api.connect.webhookclient import WebhookBundleError, WebhookClient, WebhookPostFailed
from hatchway.cluster.api.work import run_sized
from hatchway.kube.api import Object

__all__ = ["WebhookCaller"]

_encode = msgspec.json.Encoder().encode


class WebhookCaller:
    """Sends AdmissionReviews. client: makes the requests."""

    def __init__(self, client: WebhookClient) -> None:
        self._client = client

    async def call(self, hook: Webhook, review: Object, size: int) -> bytes:
        """Send a review to a webhook, and return the body of its response.

        size: bytes of JSON of the objects in the review, 0 when they are small. Raises CallFailed.
        """
        body = await run_sized(size, _encode, review)
        try:
            return await self._client.post(hook.target, body)
        except WebhookBundleError as error:
            raise CallFailed(str(error)) from None
        except WebhookPostFailed as error:
            raise CallFailed(f"failed to call webhook: {error}") from None
