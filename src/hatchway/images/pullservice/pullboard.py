"""The pulls in progress. Clients that want the same image share one pull, and only a few pulls run at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from weakref import WeakValueDictionary

from hatchway.images.contents import BadImage, Image
from hatchway.images.pullservice.pullmessages import PullAnswer, Pulled, PullFailure, Pulling, PullRequest

__all__ = ["AT_ONCE", "PER_REGISTRY", "PullBoard", "PullFunction"]

# The maximum number of pulls that run at a time, from one registry and together; others wait. Each pull has several
# connections. A registry that sends its bytes slowly can occupy only its own pulls.
PER_REGISTRY = 4
AT_ONCE = 16
# pull(request, report): pulls an image, and calls report(done, total) with its progress in bytes.
PullFunction = Callable[[PullRequest, Callable[[int, int], None]], Awaitable[Image]]


class PullBoard:
    """Pulls images, at most `per_registry` from one registry and `at_once` together at a time.

    explain: returns the message for the client when a pull fails with an expected error, else None. Other errors are
    bugs of the service, and are raised.
    """

    def __init__(
        self,
        pull: PullFunction,
        *,
        explain: Callable[[Exception], str | None],
        per_registry: int = PER_REGISTRY,
        at_once: int = AT_ONCE,
        beat: float = 5.0,
    ) -> None:
        self._pull = pull
        self._per_registry = per_registry
        self._registries: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._all = asyncio.Semaphore(at_once)
        self._explain = explain
        self._beat = beat
        self._running: dict[PullRequest, _RunningPull] = {}

    async def answers(self, request: PullRequest) -> AsyncGenerator[PullAnswer, None]:
        """Pull an image, or wait for a pull of the same image with the same credentials.

        Yields the pull's progress every few seconds, then its result. A pull is cancelled when no client waits for it
        any more; the next pull uses the bytes that were downloaded.
        """
        pull = self._running.get(request)
        if pull is None:
            pull = self._running[request] = _RunningPull()
            pull.task = asyncio.create_task(self._run(request, pull), name=f"pull {request.reference}")
        pull.waiting += 1
        try:
            while True:
                done, _ = await asyncio.wait({pull.task}, timeout=self._beat)
                if done:
                    yield pull.task.result()
                    return
                yield pull.progress
        finally:
            pull.waiting -= 1
            if not pull.waiting:
                if self._running.get(request) is pull:
                    del self._running[request]
                pull.task.cancel()
                await asyncio.wait({pull.task})

    def _registry(self, name: str) -> asyncio.Semaphore:
        """Return the semaphore of a registry's pulls, which exists while a pull uses it or waits for it."""
        found = self._registries.get(name)
        if found is None:
            found = self._registries[name] = asyncio.Semaphore(self._per_registry)
        return found

    async def _run(self, request: PullRequest, running: _RunningPull) -> Pulled | PullFailure:
        def report(done: int, total: int) -> None:
            running.progress = Pulling(done, total)

        try:
            async with self._registry(request.reference.registry), self._all:
                began = time.monotonic()
                image = await self._pull(request, report)
                return Pulled(image.image_id, image.size, time.monotonic() - began)
        except Exception as error:
            message = str(error) if isinstance(error, BadImage) else self._explain(error)
            if message is None:
                raise
            return PullFailure(message)
        finally:
            # A later request starts a new pull, because the tag may have moved to another image.
            if self._running.get(request) is running:
                del self._running[request]


class _RunningPull:
    task: asyncio.Task[Pulled | PullFailure]

    def __init__(self) -> None:
        self.progress = Pulling()
        self.waiting = 0
