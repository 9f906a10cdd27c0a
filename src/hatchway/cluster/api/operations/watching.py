"""Watches: the existing objects of a selection, then the changes to it (`storage/cacher` of the apiserver)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from hatchway.cluster.api.operations.changes import Change, change_of, converted_changes, converted_objects
from hatchway.cluster.api.operations.listing import matcher
from hatchway.cluster.api.operations.requestoptions import ListOptions, too_large_version
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.operations.versions import as_stored
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.history import Event
from hatchway.cluster.api.work import Pace
from hatchway.errors import ApiError

# Seconds between two bookmarks of a watch, and between its last bookmark and its end.
BOOKMARK_INTERVAL = 60.0
_BEFORE_END = 2.0
# The maximum number of existing objects in one batch.
_BATCH = 256
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


async def watch(
    api: Api,
    row: Resource,
    namespace: str | None,
    options: ListOptions,
    pace: Pace,
    deliver: Callable[[list[Change]], bool] | None = None,
    *,
    in_place: bool = False,
) -> AsyncGenerator[list[Change], None]:
    """Yield batches of changes until the store closes. The caller ends the watch by closing the iterator.

    The watch of a custom type ends when its version is no longer served.

    pace: pauses long work. The consumer of the batches uses the same Pace. `watch` resets the Pace after each wait for
        changes.
    deliver: called with a batch while the iterator waits for changes, so that the watch's task need not run. Returns
        False for a batch that the iterator must yield.
    in_place: True to yield objects of custom types in the versions in which they are stored.

    Raises ApiError 400 and 504 before the first batch; at any time, 410 (the version is too old, or the watcher is too
    slow), and 500 and 504 (a conversion).
    """
    served = row
    row = as_stored(row) if in_place else row
    matches = matcher(row, namespace, options)
    history = api.store.history(row.stored_as)
    revision = options.revision
    if revision is not None and revision > api.store.revision:
        raise too_large_version(revision, api.store.revision)
    convert = row.from_storage
    initial = options.send_initial_events
    if initial or (initial is None and not revision):
        now = api.store.revision
        cursor = history.cursor(now)
        objects = api.store.list(row.stored_as, namespace)
        batch: list[Change] = []
        if row.conversion is not None:
            async for shown in converted_objects(row.conversion, objects, _BATCH):
                if batch := [Change("ADDED", obj) for obj in shown if matches(obj)]:
                    yield batch
            objects, batch = [], []
        for obj in objects:
            if pace.due():
                await pace.rest()
            if matches(obj):
                batch.append(Change("ADDED", convert(obj) if convert else obj))
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
        if initial and options.bookmarks:
            batch.append(bookmark(row, now, initial_events_end=True))
        if batch:
            yield batch
    else:
        cursor = history.cursor(revision if revision else api.store.revision)

    def selected(events: Sequence[Event]) -> list[Change]:
        found = []
        for event in events:
            change = change_of(event, matches)
            if change is not None:
                found.append(Change(change.type, convert(change.object)) if convert else change)
        return found

    # The batch for which `deliver` returned False.
    left: list[Change] = []

    def pass_on() -> bool:
        nonlocal left
        assert deliver is not None
        if row.conversion is not None or (row.own_schema is not None and _current(api, row) is not served):
            return False
        try:
            left = selected(cursor.read())
        except ApiError:
            return False  # the iterator reads again, and raises the error
        if left and not deliver(left):
            return False
        left = []
        return True

    marks = _BookmarkTimes(options)
    while True:
        if left:
            yield left
            left = []
        events = cursor.read()
        if events:
            if row.own_schema is not None:
                # The type's definition may have changed, and with it the conversion of its objects.
                found = _current(api, row)
                if found is None and not in_place:
                    return
                if found is not None and found is not served:
                    served, row = found, as_stored(found) if in_place else found
                    matches = matcher(row, namespace, options)
            if row.conversion is not None:
                batch = await converted_changes(row.conversion, events, namespace, options, matches, pace)
            else:
                batch = selected(events)
            if batch:
                yield batch
            continue
        if cursor.closed:
            return
        if marks.is_due():
            # After a bookmark, a client never asks for earlier events. So a bookmark is sent only when the whole
            # history has been read: an event may have come at the moment of the timeout.
            yield [bookmark(row, api.store.revision)]
            marks.advance()
            continue
        try:
            async with asyncio.timeout_at(marks.next):
                await cursor.wait(pass_on if deliver is not None else None)
        except TimeoutError:
            pass
        pace.begin()


def _current(api: Api, row: Resource) -> Resource | None:
    """Return the current row of the same type and version; None when it is no longer served."""
    return api.registry.find(row.group, row.version, row.plural)


class _BookmarkTimes:
    """The times of a watch's bookmarks (`cacheWatcher.nextBookmarkTime`), by the event loop's clock.

    The times do not depend on events: a client learns no version from events that its selectors leave out.

    next: the time of the next bookmark; None when no more are sent.
    """

    def __init__(self, options: ListOptions) -> None:
        self._loop = asyncio.get_running_loop()
        ends = bool(options.timeout) and (options.timeout or 0) > 0
        self._last = self._loop.time() + (options.timeout or 0) - _BEFORE_END if ends else None
        self.next: float | None = None
        if options.bookmarks:
            self.advance()

    def is_due(self) -> bool:
        """Return True if a bookmark must be sent now."""
        return self.next is not None and self._loop.time() >= self.next

    def advance(self) -> None:
        """Choose the time of the next bookmark."""
        now = self._loop.time()
        found = now + BOOKMARK_INTERVAL
        if self._last is not None:
            found = min(found, self._last)
        # None when the time of the last bookmark has come already, so that this bookmark is not sent twice.
        self.next = found if found > now else None


def bookmark(row: Resource, revision: int, *, initial_events_end: bool = False) -> Change:
    """Return a bookmark: an event that has only a resourceVersion."""
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return Change("BOOKMARK", {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata})
