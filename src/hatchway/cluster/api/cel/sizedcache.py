"""A cache whose values together have a limited size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["SizedCache"]

V = TypeVar("V")


class SizedCache(Generic[V]):
    """The most recently used values by their keys. Threads may share a cache.

    most: the maximum for the sum of the sizes of the values, in bytes. A larger value is not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._kept: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> V | None:
        """Return the value of a key; None if the cache does not have it."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: str, value: V, size: int) -> None:
        """Keep a value. Drop values that were not used for the longest time, to make room. size: in bytes."""
        with self._lock:
            self._drop(key)
            if size > self._most:
                return
            while self._size + size > self._most:
                self._drop(next(iter(self._kept)))
            self._kept[key] = (value, size)
            self._size += size

    def _drop(self, key: str) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._size -= found[1]
