"""Watches: the existing objects of a selection, then the changes to it (`storage/cacher` of the apiserver)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hatchway.cluster.api.operations.changes import Change, change_of, converted_changes, converted_objects
from hatchway.cluster.api.operations.listing import matcher
from hatchway.cluster.api.operations.requestoptions import ListOptions, too_large_version
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.operations.versions import as_stored
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.work import Pace

# A watch that asked for bookmarks and has had no events for this many seconds gets the current resourceVersion.
BOOKMARK_INTERVAL = 60.0
# The most existing objects in one batch.
_BATCH = 256
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


async def watch(
    api: Api, row: Resource, namespace: str | None, options: ListOptions, pace: Pace, *, in_place: bool = False
) -> AsyncGenerator[list[Change], None]:
    """Yield batches of changes until the store closes. The caller ends the watch by closing the iterator.

    The watch of a custom type ends when its version is no longer served. pace: begins anew whenever there was nothing
    to do; what is done with the batches uses it, too. in_place: objects of custom types are shown in the versions in
    which they are stored.

    Raises ApiError 400 and 504 before the first batch, and at any time 410 (the version is too old, or the watcher is
    too slow), 500 and 504 (a conversion).
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
    quiet = False
    while True:
        events = cursor.read()
        if events:
            batch = []
            if row.own_schema is not None:
                # Its definition may have changed, and with it the way its objects are converted.
                found = api.registry.find(row.group, row.version, row.plural)
                if found is None and not in_place:
                    return
                if found is not None and found is not served:
                    served, row = found, as_stored(found) if in_place else found
                    matches = matcher(row, namespace, options)
            if row.conversion is not None:
                batch = await converted_changes(row.conversion, events, namespace, options, matches, pace)
                events = []
            for event in events:
                change = change_of(event, matches)
                if change is not None:
                    batch.append(Change(change.type, convert(change.object)) if convert else change)
            if batch:
                yield batch
            continue
        if cursor.closed:
            return
        if quiet:
            # A client never asks again for events before a bookmark's version. So the history is read once more before
            # a bookmark is sent: an event may have come at the moment of the time-out.
            yield [bookmark(row, api.store.revision)]
            quiet = False
        try:
            async with asyncio.timeout(BOOKMARK_INTERVAL if options.bookmarks else None):
                await cursor.wait()
        except TimeoutError:
            quiet = True
        pace.begin()


def bookmark(row: Resource, revision: int, *, initial_events_end: bool = False) -> Change:
    """Return a bookmark: an event that has only a resourceVersion."""
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return Change("BOOKMARK", {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata})
