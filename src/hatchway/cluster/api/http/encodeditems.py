"""Caches the JSON of list items, so that only changed objects are encoded again for the next list."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object

__all__ = ["ENVELOPE", "EncodedItems"]

# The most bytes of JSON in the cache. When there are more, the cache is emptied.
_MOST_BYTES = 32 * 1024 * 1024
# As in Kubernetes, items in lists of built-in types do not have these fields.
ENVELOPE = frozenset(("kind", "apiVersion"))
_encode = msgspec.json.Encoder().encode


class EncodedItems:
    """The cached JSON of listed objects of a store. An entry is removed when the store no longer has the object.

    Large objects are not cached. Their encoder may run on a thread; the encoder of small objects runs on the event
    loop.

    size: the bytes of JSON in the cache.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # The key is `id(object)`. The entry refers to the object, so that no other object can have this id meanwhile.
        self._kept: dict[int, tuple[Object, bytes]] = {}
        self.size = 0
        self._followed: set[str] = set()

    def encoder(self, row: Resource) -> Callable[[Object], bytes]:
        """Return a function that encodes an object of the store as an item of its type's lists."""
        if row.stored_as not in self._followed:
            self._followed.add(row.stored_as)
            self._store.subscribe(row.stored_as, self._changed)
        whole, kept = row.own_schema is not None, self._kept

        def encoded(obj: Object) -> bytes:
            found = kept.get(id(obj))
            if found is not None:
                return found[1]
            text = _encode(obj if whole else {key: obj[key] for key in obj if key not in ENVELOPE})
            if self._may_keep(row, obj):
                self._keep(obj, text)
            return text

        return encoded

    def _may_keep(self, row: Resource, obj: Object) -> bool:
        """Return True for a small object in its current state. An older state would never be removed from the cache."""
        metadata = obj["metadata"]
        key = row.stored_as, metadata.get("namespace") or "", metadata["name"]
        return self._store.get(*key) is obj and not self._store.weight(*key)

    def _keep(self, obj: Object, text: bytes) -> None:
        if self.size + len(text) > _MOST_BYTES:
            self._kept.clear()
            self.size = 0
        self._kept[id(obj)] = obj, text
        self.size += len(text)

    def _changed(self, _type: str, old: Object | None, _new: Object | None) -> None:
        found = self._kept.pop(id(old), None)
        if found is not None:
            self.size -= len(found[1])
