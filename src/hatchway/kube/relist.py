"""Finds the events that a watch has missed, by comparing a new list with the cached objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.objects import Key, key_of


def replace_known(known: dict[Key, Object], items: Iterable[Object]) -> list[WatchEvent]:
    """Replace the content of `known` with `items`; return the events that describe the differences.

    For an object that was deleted and created again under the same name, DELETED and ADDED are returned.
    """
    current = {key_of(item): item for item in items}
    events = [WatchEvent("DELETED", obj) for key, obj in known.items() if key not in current]
    for key, obj in current.items():
        old = known.get(key)
        if old is None:
            events.append(WatchEvent("ADDED", obj))
        elif old["metadata"].get("uid") != obj["metadata"].get("uid"):
            events += [WatchEvent("DELETED", old), WatchEvent("ADDED", obj)]
        elif old["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
            events.append(WatchEvent("MODIFIED", obj))
    known.clear()
    known.update(current)
    return events
