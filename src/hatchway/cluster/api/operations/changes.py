"""Turns stored events into messages of a watch: selects events, and converts their objects to the watch's version."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import islice
from typing import NamedTuple

from hatchway.cluster.api.operations.requestoptions import ListOptions
from hatchway.cluster.api.operations.versions import with_metadata
from hatchway.cluster.api.registry.conversion import ObjectConversion
from hatchway.cluster.api.storage.history import Event
from hatchway.cluster.api.work import Pace
from hatchway.errors import ApiError
from hatchway.kube.api import Object

__all__ = ["Change", "change_of", "converted_changes", "converted_objects"]

Matcher = Callable[[Object], bool]
_Objects = list[Object]


class Change(NamedTuple):
    """One message of a watch.

    type: ADDED, MODIFIED, DELETED or BOOKMARK.
    source: the stored event that has the same object, so that all watches share the encoded event; None when no stored
        event has this object.
    """

    type: str
    object: Object
    source: Event | None = None


def change_of(event: Event, matches: Matcher) -> Change | None:
    """Return the change that an event makes to a selection; None for no change.

    An object that begins to match is added to the selection. An object that no longer matches is deleted from the
    selection.
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


async def converted_objects(
    conversion: ObjectConversion, objects: Sequence[Object], at_once: int
) -> AsyncGenerator[_Objects, None]:
    """Yield lists of stored objects in the version of a watch. Raises ApiError 500, 504."""
    left = iter(objects)
    while some := list(islice(left, at_once)):
        yield await _read(conversion, some)


async def converted_changes(
    conversion: ObjectConversion,
    events: Sequence[Event],
    namespace: str | None,
    options: ListOptions,
    matches: Matcher,
    pace: Pace,
) -> list[Change]:
    """Return the changes that events make to a selection of objects in the version of a watch.

    namespace, options: the namespace and the options of the watch.
    matches: selects objects by these options.

    Raises ApiError 500, 504.
    """
    # Selectors apply to objects in the version of the watch, so the former states must be converted, too.
    is_selective = bool(options.labels.requirements or options.fields.terms)
    scoped = [one for one in events if namespace is None or (one.new["metadata"].get("namespace") or "") == namespace]
    wanted: _Objects = []
    for event in scoped:
        wanted.append(_last(event))
        if is_selective and event.old is not None and event.type != "DELETED":
            wanted.append(event.old)
    shown = iter(await _read(conversion, wanted) if wanted else ())
    found: list[Change] = []
    for event in scoped:
        if pace.due():
            await pace.rest()
        new, old = next(shown), event.old
        if event.type == "DELETED" and event.old is not None:
            old, new = new, with_metadata(new, event.new)
        elif is_selective and event.old is not None:
            old = next(shown)
        change = change_of(Event(event.type, event.revision, old, new), matches)
        if change is not None:
            is_same = change.object is event.new
            found.append(Change(change.type, change.object, event if is_same else None))
    return found


def _last(event: Event) -> Object:
    """Return the object to convert for an event.

    For a deletion this is the former state, whose conversion is usually cached. The two states differ only in their
    resourceVersion.
    """
    return event.old if event.type == "DELETED" and event.old is not None else event.new


async def _read(conversion: ObjectConversion, objects: _Objects) -> _Objects:
    try:
        return await conversion.read(objects)
    except ApiError as error:
        # As in `parseError` of `storage/etcd3/watcher.go`.
        raise error if error.reason else ApiError(error.code, "InternalError", error.message) from None
