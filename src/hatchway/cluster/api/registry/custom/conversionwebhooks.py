"""The shared parts of all custom types' conversions: the webhook client, the cache of objects, the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from hatchway.cluster.api.connect.webhookclient import WebhookClient, WebhookPostFailed, WebhookTarget
from hatchway.cluster.api.registry.custom.conversionmetrics import ConversionMetrics
from hatchway.cluster.api.registry.custom.convertedobjects import ConvertedObjects

__all__ = ["ConversionWebhooks"]

_T = TypeVar("_T")
_CLOSING = "the API server is shutting down"


class ConversionWebhooks:
    """Calls conversion webhooks.

    client: sends the requests. The caller closes the client after `aclose`.
    kept: the cache of converted objects.
    metrics: the counters of calls.
    """

    def __init__(self, client: WebhookClient) -> None:
        self._client = client
        self.kept = ConvertedObjects()
        self.metrics = ConversionMetrics()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def post(self, target: WebhookTarget, body: bytes) -> bytes:
        """Send a ConversionReview, and return the body of the response. Raises WebhookPostFailed."""
        if self._is_closed:
            raise WebhookPostFailed(_CLOSING)
        task = self.start(self._client.post(target, body))
        try:
            return await task
        except asyncio.CancelledError:
            if self._is_closed and task.cancelled():
                # `aclose` has cancelled only the call. The request that waits for the call must still get a response.
                raise WebhookPostFailed(_CLOSING) from None
            task.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task for a conversion, and return it. `aclose` cancels the task."""
        task = asyncio.get_running_loop().create_task(work, name="conversion")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """Cancel all calls: requests that wait for them fail immediately. Later calls fail immediately, too."""
        self._is_closed = True
        tasks: list[Awaitable[Any]] = list(self._tasks)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
