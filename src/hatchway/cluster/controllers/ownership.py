"""Which objects belong to a controller's object: adoption and release by label selector.

The rules are those of kube-controller-manager's `controller_ref_manager.go`: an object is owned through its controller
reference; one without a controller that the selector matches is adopted; an owned one that no longer matches is
released.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.cluster.controllers.base import Cache
from hatchway.cluster.controllers.objects import (
    controller_of,
    controller_reference,
    is_deleting,
    labels_of,
    owner_references,
    selector_matches,
    uid_of,
)
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object


async def claim(
    client: Client, owner: Object, owner_resource: str, selector: Object, found: Iterable[Object], cache: Cache
) -> list[Object]:
    """Those of `found` that `owner` controls, after adopting and releasing; `cache` is the one they come from.

    Raises ApiError when a write is refused for another reason than that the object is gone.
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
                await _write_owners(
                    client, obj, [r for r in owner_references(obj) if r.get("uid") != uid_of(owner)], cache
                )
            continue
        if not matches or is_deleting(obj) or is_deleting(owner):
            continue
        if not checked:
            # The cache may not know yet that the owner goes away: ask before the first adoption.
            if not await _still_there(client, owner, owner_resource):
                return owned
            checked = True
        adopted = await _write_owners(client, obj, [*owner_references(obj), controller_reference(owner)], cache)
        if adopted is not None:
            owned.append(adopted)
    return owned


async def _still_there(client: Client, owner: Object, resource: str) -> bool:
    metadata = owner["metadata"]
    try:
        current = await client.get(resource, metadata["name"], metadata.get("namespace"))
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    return uid_of(current) == uid_of(owner) and not is_deleting(current)


async def _write_owners(client: Client, obj: Object, references: list[Object], cache: Cache) -> Object | None:
    metadata = obj["metadata"]
    # uid and resourceVersion make the server refuse when the object was replaced or changed meanwhile.
    patch = {
        "metadata": {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "ownerReferences": references or None,
        }
    }
    try:
        written = await client.patch(cache.resource, metadata["name"], patch, metadata.get("namespace"))
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    await cache.shows(written)
    return written
