"""Caches the JSON of list items, so that only changed objects are encoded again for the next list."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object

__all__ = ["ENVELOPE", "EncodedItems"]

# The maximum number of bytes of JSON in the cache. When there are more, the cache is emptied.
_MOST_BYTES = 32 * 1024 * 1024
# Limits of lists that are cached as a whole. The number of items is limited, because they are joined without a pause.
# The bytes of JSON are limited, because each client that reads slowly keeps a list in memory.
_MOST_JOINED = 1024
_MOST_JOINED_BYTES = 1024 * 1024
# The bytes that are counted for each cached list in addition to its text. Empty lists are counted, too: clients can
# request lists of any number of namespaces that do not exist.
_ENTRY = 512
# As in Kubernetes, items in lists of built-in types do not have these fields.
ENVELOPE = frozenset(("kind", "apiVersion"))
GVK = tuple[str, str, str]
_encode = msgspec.json.Encoder().encode


class JoinedItems(NamedTuple):
    """The items of a whole list: their JSON, joined by commas, and their number."""

    text: bytes
    number: int


class EncodedItems:
    """The cached JSON of listed objects of a store. An entry is removed when the store no longer has the object.

    Large objects are not cached. Their encoder may run on a thread; the encoder of small objects runs on the event
    loop.

    size: the bytes of JSON in the cache.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # The key is `id(object)`. The entry holds the object, so that no other object can get the same id meanwhile.
        self._kept: dict[int, tuple[Object, bytes]] = {}
        # The joined items of whole lists. The keys: the stored resource; then the served type and the namespace (None:
        # all namespaces). The value is None for a list that is too long.
        self._joined: dict[str, dict[tuple[GVK, str | None], JoinedItems | None]] = {}
        self.size = 0
        self._followed: set[str] = set()

    def encoder(self, row: Resource) -> Callable[[Object], bytes]:
        """Return a function that encodes an object of the store as an item of its type's lists."""
        self._follow(row)
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

    def joined(self, row: Resource, namespace: str | None) -> JoinedItems | None:
        """Return the items of a whole list; None when there are too many or their JSON is too long.

        namespace: None for all namespaces, and for types without namespaces.
        """
        if self._store.has_large(row.stored_as):
            return None
        key = row.gvk, namespace
        lists = self._joined.setdefault(row.stored_as, {})
        if key not in lists:
            found = self._join(row, namespace)
            self._make_room(_size(found))
            lists[key] = found
        return lists[key]

    def _join(self, row: Resource, namespace: str | None) -> JoinedItems | None:
        encoded, objects = self.encoder(row), self._store.list(row.stored_as, namespace)
        if len(objects) > _MOST_JOINED:
            return None
        items: list[bytes] = []
        size = 0
        for obj in objects:
            items.append(encoded(obj))
            size += len(items[-1])
            if size > _MOST_JOINED_BYTES:
                return None
        return JoinedItems(b",".join(items), len(items))

    def _follow(self, row: Resource) -> None:
        if row.stored_as not in self._followed:
            self._followed.add(row.stored_as)
            resource = row.stored_as
            self._store.subscribe(resource, lambda _type, old, new: self._changed(resource, old, new))

    def _may_keep(self, row: Resource, obj: Object) -> bool:
        """Return True for a small object in its current state. An older state would never be removed from the cache."""
        metadata = obj["metadata"]
        key = row.stored_as, metadata.get("namespace") or "", metadata["name"]
        return self._store.get(*key) is obj and not self._store.weight(*key)

    def _keep(self, obj: Object, text: bytes) -> None:
        self._make_room(len(text))
        self._kept[id(obj)] = obj, text

    def _make_room(self, size: int) -> None:
        if self.size + size > _MOST_BYTES:
            self._kept.clear()
            for lists in self._joined.values():
                lists.clear()
            self.size = 0
        self.size += size

    def _changed(self, resource: str, old: Object | None, new: Object | None) -> None:
        found = self._kept.pop(id(old), None)
        if found is not None:
            self.size -= len(found[1])
        lists = self._joined.get(resource)
        if lists:
            changed = (old if new is None else new) or {}
            namespaces = changed["metadata"].get("namespace") or "", None
            for key in [key for key in lists if key[1] in namespaces]:
                self.size -= _size(lists.pop(key))


def _size(joined: JoinedItems | None) -> int:
    """Return the bytes that are counted for a cached list."""
    return _ENTRY + (len(joined.text) if joined is not None else 0)
