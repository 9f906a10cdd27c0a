"""Watched objects of one resource, in memory, with indexes (client-go's `tools/cache`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator

from hatchway.cluster import watchdog
from hatchway.cluster.controllers.objectfields import uid_of
from hatchway.kube.api import Client, Object
from hatchway.kube.informer import Informer
from hatchway.kube.objects import Key, key_of
from hatchway.numerals import parse_int

log = logging.getLogger(__name__)

# How long (seconds) a reconcile waits until the cache has the objects that it has written. Normally this takes
# milliseconds. After this time the reconcile fails, because a later retry is safer than acting on stale objects.
_CATCH_UP_SECONDS = 30.0

# Parameters: the event's type, the object, and the object before the change or None.
Changed = Callable[[str, Object, "Object | None"], None]


class CacheIndex:
    """Finds objects of a cache by keys. keys: a function that returns an object's keys, each hashable."""

    def __init__(self, keys: Callable[[Object], Iterable[Hashable]]) -> None:
        self._keys = keys
        self._found: dict[Hashable, dict[Key, Object]] = {}

    def get(self, *keys: Hashable) -> list[Object]:
        """Return the objects that have at least one of these keys, without duplicates."""
        if len(keys) == 1:
            return list(self._found.get(keys[0], {}).values())
        return list({place: obj for key in keys for place, obj in self._found.get(key, {}).items()}.values())

    def count(self, key: Hashable) -> int:
        """Return the number of objects with this key."""
        return len(self._found.get(key, ()))

    def change(self, obj: Object | None, before: Object | None) -> None:
        """Replace `before` (None for a new object) by `obj` (None for a deleted object)."""
        place = key_of(obj or before or {})
        if before is not None:
            for key in self._keys(before):
                found = self._found.get(key)
                if found is not None:
                    found.pop(place, None)
                    if not found:
                        del self._found[key]
        if obj is not None:
            for key in self._keys(obj):
                self._found.setdefault(key, {})[place] = obj


class ObjectCache:
    """The objects of one watched resource, which all controllers share. The objects must not be changed."""

    def __init__(self, client: Client, resource: str) -> None:
        self.resource = resource
        self._informer = Informer(client, resource)
        self._namespaces: dict[str, dict[str, Object]] = {}
        self._version = 0
        self._subscribers: list[Changed] = []
        self._indexes: dict[Callable[[Object], Iterable[Hashable]], CacheIndex] = {}
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._informer.subscribe(self._apply)

    async def run(self) -> None:
        """Watch the resource until cancelled. Raises ApiError as `Informer.run` does."""
        await self._informer.run()

    async def synced(self) -> None:
        """Wait until the cache has all objects that the API server had when the watch began."""
        await self._informer.synced()

    def subscribe(self, changed: Changed) -> None:
        """Call `changed(type, object, object before)` for each future change.

        `changed` is called at once, with the type ADDED, for each object that is already in the cache.
        """
        for obj in list(self):
            changed("ADDED", obj, None)
        self._subscribers.append(changed)

    def index(self, keys: Callable[[Object], Iterable[Hashable]]) -> CacheIndex:
        """Return the index that uses the function `keys`. Callers with the same function share one index."""
        found = self._indexes.get(keys)
        if found is None:
            found = self._indexes[keys] = CacheIndex(keys)
            for obj in self:
                found.change(obj, None)
        return found

    def __iter__(self) -> Iterator[Object]:
        for items in self._namespaces.values():
            yield from items.values()

    def get(self, key: Key) -> Object | None:
        """Return the object with this (namespace, name), None when there is none."""
        return self._namespaces.get(key[0], {}).get(key[1])

    def in_namespace(self, namespace: str) -> list[Object]:
        """Return all objects of a namespace."""
        return list(self._namespaces.get(namespace, {}).values())

    async def wait_for_write(self, written: Object) -> None:
        """Wait until the cache is as new as `written`, the object that a write returned. Raises TimeoutError."""
        version = _version(written)
        await self._until(lambda: self._version >= version)

    async def wait_for_deletion(self, obj: Object) -> None:
        """Wait until `obj` is gone from the cache or marked as being deleted. Raises TimeoutError."""
        key, uid = key_of(obj), uid_of(obj)

        def gone() -> bool:
            found = self.get(key)
            return found is None or uid_of(found) != uid or "deletionTimestamp" in found["metadata"]

        await self._until(gone)

    async def _until(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        waiter = (condition, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                await waiter[1]
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _apply(self, kind: str, obj: Object) -> None:
        namespace, name = key_of(obj)
        items = self._namespaces.setdefault(namespace, {})
        before = items.get(name)
        if kind == "DELETED":
            items.pop(name, None)
            if not items:
                del self._namespaces[namespace]
        else:
            items[name] = obj
        self._version = max(self._version, _version(obj))
        for index in self._indexes.values():
            try:
                index.change(None if kind == "DELETED" else obj, before)
            except Exception:
                log.exception("an index of %s failed on %s/%s", self.resource, namespace, name)
        for changed in self._subscribers:
            try:
                with watchdog.section(f"a subscriber to {self.resource}"):
                    changed(kind, obj, before)
            except Exception:
                # When the subscriber of one controller fails, the other subscribers must still be called.
                log.exception("a subscriber to %s failed on %s/%s", self.resource, namespace, name)
        for waiter in [waiter for waiter in self._waiters if waiter[0]()]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)


def _version(obj: Object) -> int:
    return parse_int(obj["metadata"].get("resourceVersion")) or 0
