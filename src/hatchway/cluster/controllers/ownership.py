"""Finds the objects that a workload owns, and adopts and releases objects according to the workload's label selector.

The rules come from kube-controller-manager's `controller_ref_manager.go`. An object's owner is in its controller
reference. An object without a controller is adopted if the selector matches it. An owned object that the selector no
longer matches is released.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import (
    controller_of,
    controller_reference,
    is_deleting,
    labels_of,
    owner_references,
    uid_of,
)
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.selectors import selector_matches


async def claim(
    client: Client,
    owner: Object,
    owner_resource: str,
    selector: Object,
    found: Iterable[Object],
    cache: ObjectCache,
    *,
    finalizer: str = "",
) -> list[Object]:
    """Adopt and release objects of `found`; return the objects that `owner` controls afterwards.

    cache: the cache that `found` comes from.
    finalizer: a finalizer that is added to adopted objects and removed from released ones; "" for none.

    Raises ApiError when a write is refused, except when the object no longer exists.
    """
    owned: list[Object] = []
    checked = False
    for obj in found:
        ref = controller_of(obj)
        matches = selector_matches(selector, labels_of(obj))
        if ref is not None:
            if ref.get("uid") != uid_of(owner):
                continue
            if matches:
                owned.append(obj)
            elif not is_deleting(owner):
                left = [r for r in owner_references(obj) if r.get("uid") != uid_of(owner)]
                await _write_owners(client, obj, left, cache, _without(finalizer, obj))
            continue
        if not matches or is_deleting(obj) or is_deleting(owner):
            continue
        if not checked:
            # The cache may not yet show that the owner is being deleted, so ask the API server before adopting.
            if not await _still_there(client, owner, owner_resource):
                return owned
            checked = True
        owners = [*owner_references(obj), controller_reference(owner)]
        adopted = await _write_owners(client, obj, owners, cache, _with(finalizer, obj))
        if adopted is not None:
            owned.append(adopted)
    return owned


def _with(finalizer: str, obj: Object) -> list[str]:
    kept = list(obj["metadata"].get("finalizers") or ())
    return [*kept, finalizer] if finalizer and finalizer not in kept else kept


def _without(finalizer: str, obj: Object) -> list[str]:
    return [one for one in obj["metadata"].get("finalizers") or () if one != finalizer]


async def _still_there(client: Client, owner: Object, resource: str) -> bool:
    metadata = owner["metadata"]
    try:
        current = await client.get(resource, metadata["name"], metadata.get("namespace"))
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    return uid_of(current) == uid_of(owner) and not is_deleting(current)


async def _write_owners(
    client: Client, obj: Object, references: list[Object], cache: ObjectCache, finalizers: list[str]
) -> Object | None:
    metadata = obj["metadata"]
    # With uid and resourceVersion, the API server refuses the patch if the object was replaced or changed meanwhile.
    patch = {
        "metadata": {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "ownerReferences": references or None,
        }
    }
    if finalizers != (metadata.get("finalizers") or []):
        patch["metadata"]["finalizers"] = finalizers or None
    try:
        written = await client.patch(cache.resource, metadata["name"], patch, metadata.get("namespace"))
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    await cache.wait_for_write(written)
    return written
