"""Watches: the existing objects of a selection, then the changes to it (`storage/cacher` of the apiserver)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

from hatchway.cluster.api.operations.listing import matcher
from hatchway.cluster.api.operations.requestoptions import ListOptions, too_large_version
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.history import Event
from hatchway.cluster.api.work import Pace
from hatchway.errors import ApiError
from hatchway.kube.api import Object

# A watch that asked for bookmarks and has had no events for this many seconds gets the current resourceVersion.
BOOKMARK_INTERVAL = 60.0
# The most existing objects in one batch.
_BATCH = 256
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Change(NamedTuple):
    """One message of a watch.

    type: ADDED, MODIFIED, DELETED or BOOKMARK. source: the event, if `object` is its unchanged object, so that watches
    can share its encoding; else None.
    """

    type: str
    object: Object
    source: Event | None = None


def change_of(event: Event, matches: Callable[[Object], bool]) -> Change | None:
    """Return the change that an event makes to a selection, None for no change.

    An object that begins to match is added to the selection; one that no longer matches is deleted from it.
    """
    before = event.old is not None and matches(event.old)
    after = event.type != "DELETED" and matches(event.new)
    if after:
        return Change("MODIFIED" if before else "ADDED", event.new, event)
    if not before:
        return None
    if event.type == "DELETED":
        return Change("DELETED", event.new, event)
    assert event.old is not None
    metadata = {**event.old["metadata"], "resourceVersion": str(event.revision)}
    return Change("DELETED", {**event.old, "metadata": metadata})


async def watch(
    api: Api,
    row: Resource,
    namespace: str | None,
    options: ListOptions,
    pace: Pace,
    deliver: Callable[[list[Change]], bool] | None = None,
) -> AsyncGenerator[list[Change], None]:
    """Yield batches of changes until the store closes. The caller ends the watch by closing the iterator.

    pace: begins anew whenever there was nothing to do; what is done with the batches uses it, too. deliver: takes a
    batch while the iterator waits for changes, without a turn of the task; it returns False for a batch that it leaves
    to the iterator.

    Raises ApiError 400 and 504 before the first batch, and 410 at any time: the version is too old, or the watcher is
    too slow.
    """
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

    def next_batch() -> list[Change]:
        batch = []
        for event in cursor.read():
            change = change_of(event, matches)
            if change is not None:
                batch.append(Change(change.type, convert(change.object)) if convert else change)
        return batch

    # What `deliver` did not take; and whether it has taken anything since the wait began.
    left: list[Change] = []
    delivered = False

    def pass_on() -> bool:
        nonlocal left, delivered
        assert deliver is not None
        try:
            batch = next_batch()
        except ApiError:
            return False  # the iterator reads again, and raises it
        if batch and not deliver(batch):
            left = batch
            return False
        delivered = delivered or bool(batch)
        return True

    quiet = False
    while True:
        batch, left = left or next_batch(), []
        if batch:
            yield batch
            continue
        if cursor.has_more:
            continue
        if cursor.closed:
            return
        if quiet:
            # A client never asks again for events before a bookmark's version. So the history is read once more before
            # a bookmark is sent: an event may have come at the moment of the time-out.
            yield [bookmark(row, api.store.revision)]
            quiet = False
        delivered = False
        try:
            async with asyncio.timeout(BOOKMARK_INTERVAL if options.bookmarks else None):
                await cursor.wait(pass_on if deliver is not None else None)
        except TimeoutError:
            quiet = not delivered
        pace.begin()


def bookmark(row: Resource, revision: int, *, initial_events_end: bool = False) -> Change:
    """Return a bookmark: an event that has only a resourceVersion."""
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return Change("BOOKMARK", {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata})
