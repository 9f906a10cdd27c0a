"""What changed while nobody was looking: a new complete list beside what was known before. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.kube.api import Object, WatchEvent

Key = tuple[str, str]


def key_of(obj: Object) -> Key:
    """(namespace, name); "" as the namespace of cluster-scoped objects."""
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def differences(known: dict[Key, Object], items: Iterable[Object]) -> list[WatchEvent]:
    """The events that lead from `known` to `items`; `known` is brought up to date.

    An object that was deleted and made again under its name is told as both: it shares nothing with the one before.
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
