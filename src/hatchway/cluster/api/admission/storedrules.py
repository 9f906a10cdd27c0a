"""Reads the latest states of objects that limit the other objects of a namespace: quotas, limit ranges."""

from __future__ import annotations

from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object

__all__ = ["latest_of", "latest_with_new"]


def latest_of(store: Store, resource: str, namespace: str) -> list[Object]:
    """Return the latest states of committed objects. Updates in progress are included, new objects are not."""
    names = (one["metadata"]["name"] for one in store.list(resource, namespace))
    found = (store.latest(resource, namespace, name) for name in names)
    return [one for one in found if one is not None]


def latest_with_new(store: Store, resource: str, namespace: str, but: str) -> list[Object]:
    """Return the latest states of all objects, including objects being created. but: the name of an object to omit."""
    found = {one["metadata"]["name"]: one for one in latest_of(store, resource, namespace)}
    for (_, of, name), new in store.pending(resource):
        if of == namespace and new is not None:
            found[name] = new
    found.pop(but, None)
    return list(found.values())
