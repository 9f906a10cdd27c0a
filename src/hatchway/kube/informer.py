"""A watched cache of one resource, with subscribers (a small version of client-go's shared informer)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from hatchway.kube.api import Client, Object, WatchEvent
from hatchway.kube.objects import Key, key_of
from hatchway.kube.relist import replace_known

log = logging.getLogger(__name__)

ObjectCallback = Callable[[str, Object], None]


class Informer:
    """Watches `resource`, and caches its objects in `items` by (namespace, name), with "" for cluster-scoped objects.

    After each change of `items`, subscribers are called in the order of subscription with ("ADDED" | "MODIFIED" |
    "DELETED", object). They must return quickly: for example, put a key into a queue or set an event. Objects are
    shared, so never change them. An exception of a subscriber is logged, and does not end its subscription;
    during `subscribe` it is raised.
    """

    def __init__(
        self,
        client: Client,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self.items: dict[Key, Object] = {}
        self._events: Callable[[], AsyncIterator[WatchEvent]] = lambda: client.watch(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        self._subscribers: list[ObjectCallback] = []
        self._synced = asyncio.Event()

    def subscribe(self, callback: ObjectCallback) -> None:
        """Call `callback` at once, with ADDED, for each cached object, and from now on for each change."""
        for obj in list(self.items.values()):
            callback("ADDED", obj)
        self._subscribers.append(callback)

    def get(self, name: str, namespace: str = "") -> Object | None:
        """Return an object's last known state; None when there is none. Do not change it."""
        return self.items.get((namespace, name))

    async def synced(self) -> None:
        """Wait until the first complete list has arrived."""
        await self._synced.wait()

    async def run(self) -> None:
        """Watch until cancelled. Raises ApiError for errors that another attempt would repeat (401, 403, 404, 405).

        When `run` is called again after such an error, it reports all changes since then, including deletions.
        """
        listed: list[Object] | None = []
        async for event in self._events():
            if listed is None:
                self._apply(event)
            elif event.type == "SYNCED":
                for change in replace_known(dict(self.items), listed):
                    self._apply(change)
                listed = None
                self._synced.set()
            else:
                listed.append(event.object)

    def _apply(self, event: WatchEvent) -> None:
        key = key_of(event.object)
        if event.type == "DELETED":
            self.items.pop(key, None)
        else:
            self.items[key] = event.object
        for callback in self._subscribers:
            try:
                callback(event.type, event.object)
            except Exception:
                log.exception("a subscriber to %s failed on %s/%s", self.resource, *key)


@contextlib.asynccontextmanager
async def running(*informers: Informer) -> AsyncIterator[None]:
    """Run informers during a block, which begins when all of them are synced."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informer.run(), name=f"informer {informer.resource}") for informer in informers]
        for informer in informers:
            await informer.synced()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
