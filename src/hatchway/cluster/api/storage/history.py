"""The latest events of one resource, which watches read.

A watch is a position in this history and has no queue. So a slow reader needs memory only for the events that it read
last. A watch gets 410 Expired if it needs events that are older than the oldest kept event.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from hatchway.errors import gone
from hatchway.kube.api import Object

# The approximate number of bytes of JSON that one read returns.
_BATCH = 256 * 1024
# Seconds of one turn of the event loop for waking watches, at most.
_SLICE = 0.002

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(slots=True)
class Event:
    """One change of an object.

    old: the former state; None when the object was added.
    new: the new state; of a deletion, the last state with the deletion's resourceVersion.
    size: bytes of `new` as JSON.
    encoded: the encoded forms of the event (JSON, protobuf ...), cached so that many watches share them.
    """

    type: EventType
    revision: int
    old: Object | None
    new: Object
    size: int = 0
    encoded: dict[object, bytes] = field(default_factory=dict)


class History:
    """The events of one resource after the revision `floor`.

    limit: the number of latest events that are always kept, unless they are large.
    weight: the maximum number of bytes of JSON that are kept. In memory, an event takes several times the size of its
        JSON.
    """

    def __init__(self, floor: int, limit: int, weight: int = 8 * 1024 * 1024) -> None:
        self.floor = floor
        self._limit = limit
        self._max_weight = weight
        self._weight = 0
        self._base = 0  # number of forgotten events, which is the absolute index of the first event kept
        self._events: list[Event] = []
        # The watches that wait for the next event, in the order in which they began to wait.
        self._waiting: dict[Callable[[], None], None] = {}
        self._wake_scheduled = False
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
        """Return the number of oldest events to drop. The latest event always stays.

        Only half of the allowed weight is left, so that the next drop comes much later.
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
        # The call is scheduled, so that a watch is woken only once for all changes of a transaction.
        if self._waiting and not self._wake_scheduled:
            self._wake_scheduled = True
            asyncio.get_running_loop().call_soon(self._call_waiting)

    def _call_waiting(self) -> None:
        self._wake_scheduled = False
        waiting, self._waiting = self._waiting, {}
        _call_some(iter(waiting))

    def call_once(self, notify: Callable[[], None]) -> None:
        """Call a function from the event loop after the next event, or when the history is closed."""
        self._waiting[notify] = None

    def forget_call(self, notify: Callable[[], None]) -> None:
        """Undo `call_once`. The call may have begun already."""
        self._waiting.pop(notify, None)

    def has(self, index: int) -> bool:
        """Return True if there is an event at this absolute index (which counts forgotten events, too) or later."""
        return index < self._base + len(self._events)

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
        """Return about 256 KiB of events from an absolute index on. Raises ApiError 410 if the first is forgotten."""
        if index < self._base:
            raise gone("too old resource version: this watch was too slow to follow")
        start = end = index - self._base
        weight = 0
        while end < len(self._events) and weight < _BATCH:
            weight += self._events[end].size
            end += 1
        return self._events[start:end]


def _call_some(waiting: Iterator[Callable[[], None]]) -> None:
    """Call functions for a few milliseconds, and the remaining ones in later turns of the event loop.

    Calling all of them in one turn would block the loop until the event was sent to every watcher.
    """
    until = time.perf_counter() + _SLICE
    for notify in waiting:
        notify()
        if time.perf_counter() >= until:
            asyncio.get_running_loop().call_soon(_call_some, waiting)
            return


class Cursor:
    """A position in a history."""

    def __init__(self, history: History, index: int) -> None:
        self._history = history
        self._index = index

    @property
    def closed(self) -> bool:
        """Return True when the history is closed, so that watches must end."""
        return self._history.closed

    def read(self) -> list[Event]:
        """Read the events since the last read, about 256 KiB at most, and return them.

        The size is limited, because the events stay in memory until the client has received them. Raises ApiError 410
        when some of the events are no longer kept.
        """
        events = self._history.read(self._index)
        self._index += len(events)
        return events

    async def wait(self, pass_on: Callable[[], bool] | None = None) -> None:
        """Wait until `read` has events, the history is closed, or `pass_on` returns False.

        pass_on: reads the new events, and returns True to continue waiting. The event loop calls it directly, so a
        client that has received all earlier events gets the new ones without waking this task. An exception of
        `pass_on` is raised here.
        """
        history = self._history
        if history.closed or history.has(self._index):
            return
        waiter = asyncio.get_running_loop().create_future()

        def notify() -> None:
            if waiter.done():
                return
            try:
                goes_on = pass_on is not None and not history.closed and pass_on() and not history.has(self._index)
            except Exception as error:  # noqa: BLE001  other watches must still get their events
                waiter.set_exception(error)
                return
            if goes_on:
                history.call_once(notify)
            else:
                waiter.set_result(None)

        history.call_once(notify)
        try:
            await waiter
        finally:
            history.forget_call(notify)
