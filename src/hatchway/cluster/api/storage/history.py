"""The latest events of one resource, which watches read.

A watch is a cursor into this history and has no queue of its own. So a slow reader costs no more than the events that
it was given last. A watch that falls behind the oldest event that is kept, or asks for a version before it, gets 410
Expired.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Literal

from hatchway.errors import gone
from hatchway.kube.api import Object

# About how many bytes of JSON are handed out at once.
_BATCH = 256 * 1024
# How many watches are woken in one turn of the event loop.
_WOKEN = 32

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(slots=True)
class Event:
    """One change. `new` of a deletion is the last state with the deletion's resourceVersion; `old` None when added.

    size: bytes of `new` as JSON. encoded: the event as JSON, by shape, kept so that many watches encode it only once.
    """

    type: EventType
    revision: int
    old: Object | None
    new: Object
    size: int = 0
    encoded: dict[object, bytes] = field(default_factory=dict)


class History:
    """Events after the revision `floor`: the latest `limit` of them at least, fewer when they are large.

    weight: bytes of JSON that may be kept; in memory an event takes several times the size of its object as JSON.
    """

    def __init__(self, floor: int, limit: int, weight: int = 8 * 1024 * 1024) -> None:
        self.floor = floor
        self._limit = limit
        self._max_weight = weight
        self._weight = 0
        self._base = 0  # number of forgotten events, which is the absolute index of the first one kept
        self._events: list[Event] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self.closed = False

    def append(self, event: Event) -> None:
        """Add the latest event, forget old events when there are too many, and wake waiting watches."""
        self._events.append(event)
        self._weight += event.size
        if len(self._events) >= 2 * self._limit:
            self._forget(self._limit)
        elif self._weight > self._max_weight:
            self._forget(self._excess())
        self._wake()

    def _excess(self) -> int:
        """Return the number of oldest events to drop; the last one stays.

        It drops events until half of the allowed weight is left, so that this is seldom needed.
        """
        weight = self._weight
        for count, event in enumerate(self._events[:-1]):
            if weight <= self._max_weight // 2:
                return count
            weight -= event.size
        return len(self._events) - 1

    def _forget(self, count: int) -> None:
        if not count:
            return
        forgotten = self._events[:count]
        del self._events[:count]
        self._weight -= sum(event.size for event in forgotten)
        self._base += count
        self.floor = forgotten[-1].revision

    def close(self) -> None:
        """End every watch."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, set()
        if waiting:
            _wake_some(iter(waiting))

    def since(self, revision: int) -> list[Event]:
        """Return the events after `revision`. Raises ApiError 410 when some of them are forgotten already."""
        if revision < self.floor:
            raise gone(f"too old resource version: {revision} ({self.floor})")
        return self._events[bisect_right(self._events, revision, key=lambda event: event.revision) :]

    def cursor(self, revision: int) -> Cursor:
        """Return a cursor after `revision`. Raises ApiError 410 when events after it are forgotten already."""
        if revision < self.floor:
            raise gone(f"too old resource version: {revision} ({self.floor})")
        return Cursor(self, self._base + bisect_right(self._events, revision, key=lambda event: event.revision))

    def read(self, index: int) -> list[Event]:
        """Return about 256 KiB of events from an absolute index on. Raises ApiError 410 when they are forgotten."""
        if index < self._base:
            raise gone("too old resource version: this watch was too slow to follow")
        start = end = index - self._base
        weight = 0
        while end < len(self._events) and weight < _BATCH:
            weight += self._events[end].size
            end += 1
        return self._events[start:end]

    async def wait(self, index: int) -> None:
        """Wait until there is an event at `index`, or the history is closed."""
        while index >= self._base + len(self._events) and not self.closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)


def _wake_some(waiters: Iterator[asyncio.Future[None]]) -> None:
    """Wake some watches in this turn of the event loop, and the others in the next ones.

    All at once, they would hold the loop for as long as it takes to send an event to every watcher.
    """
    for waiter in islice(waiters, _WOKEN):
        if not waiter.done():
            waiter.set_result(None)
    following = next(waiters, None)
    if following is not None:
        following.get_loop().call_soon(_wake_some, chain((following,), waiters))


class Cursor:
    """A position in a history."""

    def __init__(self, history: History, index: int) -> None:
        self._history = history
        self._index = index

    @property
    def closed(self) -> bool:
        """Return True when the store is closed, so that `read` returns no more changes."""
        return self._history.closed

    def read(self) -> list[Event]:
        """Read the events since the last read, about 256 KiB at most, and return them.

        The size is limited because they stay in memory until the client has received them. Raises ApiError 410 when
        some of them are no longer kept.
        """
        events = self._history.read(self._index)
        self._index += len(events)
        return events

    async def wait(self) -> None:
        """Wait until `read` has events, or the store is closed (`closed`)."""
        await self._history.wait(self._index)
