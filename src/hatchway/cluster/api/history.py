"""The latest events of one resource: what a watch follows.

A watch is a cursor into this history, not a queue of its own: a slow reader costs nothing, and one that falls too far
behind is told so (410 Expired), as is one that asks for a version from before the oldest event that is kept.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

from hatchway.errors import gone
from hatchway.kube.api import Object

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(slots=True)
class Event:
    """One change. `new` of a deletion is the last state with the deletion's resourceVersion; `old` None when added.

    encoded: the event as JSON by the kind of view, kept so that many watches encode it once.
    """

    type: EventType
    revision: int
    old: Object | None
    new: Object
    encoded: dict[object, bytes] = field(default_factory=dict)


class History:
    """Events after the revision `floor`, the latest `limit` of them at least."""

    def __init__(self, floor: int, limit: int) -> None:
        self.floor = floor
        self._limit = limit
        self._base = 0  # how many events were forgotten: the absolute index of the first one kept
        self._events: list[Event] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self.closed = False

    def append(self, event: Event) -> None:
        self._events.append(event)
        if len(self._events) >= 2 * self._limit:
            forgotten = self._events[: self._limit]
            del self._events[: self._limit]
            self._base += self._limit
            self.floor = forgotten[-1].revision
        self._wake()

    def close(self) -> None:
        """End every watch."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def cursor(self, revision: int) -> Cursor:
        """A cursor after `revision`. Raises ApiError 410 when events after it are forgotten already."""
        if revision < self.floor:
            raise gone(f"too old resource version: {revision} ({self.floor})")
        return Cursor(self, self._base + bisect_right(self._events, revision, key=lambda event: event.revision))

    def read(self, index: int) -> list[Event]:
        if index < self._base:
            raise gone("too old resource version: this watch was too slow to follow")
        return self._events[index - self._base :]

    async def wait(self, index: int) -> None:
        """Until there is an event at `index`, or the history is closed."""
        while index >= self._base + len(self._events) and not self.closed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)


class Cursor:
    """A place in a history."""

    def __init__(self, history: History, index: int) -> None:
        self._history = history
        self._index = index

    @property
    def closed(self) -> bool:
        return self._history.closed

    def read(self) -> list[Event]:
        """The events since the last read, maybe none. Raises ApiError 410 when some of them are forgotten."""
        events = self._history.read(self._index)
        self._index += len(events)
        return events

    async def wait(self) -> None:
        """Until `read` has something to give, or the store is closed (`closed`)."""
        await self._history.wait(self._index)
