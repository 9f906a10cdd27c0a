"""A cache of objects that webhooks have converted: each state of an object is converted once for all its readers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hatchway.kube.api import Object

__all__ = ["ConvertedObjects"]

# The maximum number of bytes of JSON in the cache. In memory, the objects take several times as much.
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Kept:
    # Keeps the object alive, so that no other object gets the same `id`.
    stored: Object
    owner: object
    converted: Object
    size: int


class ConvertedObjects:
    """A cache of converted objects. It drops the least recently used objects first.

    size: how many bytes of JSON are in the cache.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[int, str], _Kept] = OrderedDict()
        self.size = 0

    def get(self, owner: object, stored: Object, api_version: str) -> Object | None:
        """Return a stored object as the converter `owner` has converted it; None when the cache does not have it."""
        key = id(stored), api_version
        found = self._kept.get(key)
        if found is None or found.owner is not owner:
            return None
        self._kept.move_to_end(key)
        return found.converted

    def keep(self, owner: object, stored: Object, api_version: str, converted: Object, size: int) -> None:
        """Add a converted object to the cache.

        owner: the converter. stored: the object before the conversion. size: bytes of JSON to count for the object.
        """
        if size > self._most_bytes:
            return
        key = id(stored), api_version
        if (former := self._kept.pop(key, None)) is not None:
            self.size -= former.size
        self._kept[key] = _Kept(stored, owner, converted, size)
        self.size += size
        while self.size > self._most_bytes:
            self.size -= self._kept.popitem(last=False)[1].size
