"""Keeps objects that webhooks have converted, so that each state of an object is converted once for all its readers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hatchway.kube.api import Object

__all__ = ["ConvertedObjects"]

# The most bytes of JSON that are kept. In memory they take several times as much.
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Kept:
    # While the entry refers to the object, no other object can have its identity.
    stored: Object
    owner: object
    converted: Object
    size: int


class ConvertedObjects:
    """The latest conversions of stored objects; the oldest are dropped first.

    Kubernetes' watch cache also has a type's objects in each version. size: how many bytes of JSON are kept.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[int, str], _Kept] = OrderedDict()
        self.size = 0

    def get(self, owner: object, stored: Object, api_version: str) -> Object | None:
        """Return the object that `owner` made of this one, None when it is not known."""
        key = id(stored), api_version
        found = self._kept.get(key)
        if found is None or found.owner is not owner:
            return None
        self._kept.move_to_end(key)
        return found.converted

    def keep(self, owner: object, stored: Object, api_version: str, converted: Object, size: int) -> None:
        """Keep a conversion.

        owner: the converter that made it. stored: the object that was converted. size: bytes of JSON of the object.
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
