"""Watches: what is there, then what changes, as a selection of objects sees it (`storage/cacher` of the apiserver)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from hatchway.cluster.api.history import Event
from hatchway.cluster.api.options import ListOptions, too_large_version
from hatchway.cluster.api.registry import Resource
from hatchway.cluster.api.rest import Api
from hatchway.kube.api import Object

# How often a quiet watch that asked for bookmarks hears of the current resourceVersion.
BOOKMARK_INTERVAL = 60.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch sends: type ADDED, MODIFIED, DELETED or BOOKMARK. source: the event behind it, where the object is
    exactly the event's (so that its encoding can be shared), else None."""

    type: str
    object: Object
    source: Event | None = None


def seen(event: Event, matches: Callable[[Object], bool]) -> Change | None:
    """How a selection sees an event: an object that begins to match is added, one that stops to match is deleted."""
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
    api: Api, row: Resource, namespace: str | None, options: ListOptions
) -> AsyncGenerator[list[Change], None]:
    """Batches of changes, for ever, or until the store closes. The caller ends it by closing the iterator.

    Raises ApiError: 400 and 504 before the first batch, 410 at any time (the version is too old, or the watcher too slow).
    """
    matches = api.matcher(row, namespace, options)
    history = api.store.history(row.stored_as)
    revision = options.revision
    if revision is not None and revision > api.store.revision:
        raise too_large_version(revision, api.store.revision)
    convert = row.from_storage
    initial = options.send_initial_events
    if initial or (initial is None and not revision):
        now = api.store.revision
        cursor = history.cursor(now)
        batch = [
            Change("ADDED", convert(obj) if convert else obj)
            for obj in api.store.list(row.stored_as, namespace)
            if matches(obj)
        ]
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
            for event in events:
                change = seen(event, matches)
                if change is not None:
                    batch.append(Change(change.type, convert(change.object)) if convert else change)
            if batch:
                yield batch
            continue
        if cursor.closed:
            return
        if quiet:
            # Not before it is known that nothing came in the moment when the time was over: who has heard of a
            # version asks for nothing from before it.
            yield [bookmark(row, api.store.revision)]
            quiet = False
        try:
            async with asyncio.timeout(BOOKMARK_INTERVAL if options.bookmarks else None):
                await cursor.wait()
        except TimeoutError:
            quiet = True


def bookmark(row: Resource, revision: int, *, initial_events_end: bool = False) -> Change:
    """An event that tells nothing but the resourceVersion."""
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return Change("BOOKMARK", {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata})
