"""Reads the object of a write from the store. Stores the result in the stored version, within the size limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from hatchway.cluster.api.operations.operation import Operation
from hatchway.cluster.api.operations.tracking import keep_times, without_managed
from hatchway.cluster.api.operations.versions import shown_of, storable_of
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import ApiError, not_found
from hatchway.kube.api import Object

__all__ = ["latest_of", "store_change", "store_new"]


def latest_of(store: Store, request: Operation) -> Object:
    """Return the latest state of the request's object, even if it is not committed yet.

    Raises ApiError 404.
    """
    row = request.row
    found = store.latest(row.stored_as, request.namespace, request.name)
    if found is None:
        raise not_found(row.plural, request.name, row.group)
    return found


async def store_new(store: Store, request: Operation, storable: Object) -> Object:
    """Store a new object and return it. In a dry run, nothing is stored. Raises ApiError 409, 413.

    storable: the object in the form in which it is stored (`storable_of`).
    """
    row, metadata = request.row, storable["metadata"]
    if not request.dry_run:
        return await _store_within_limits(request, storable, partial(store.create, row.stored_as))
    name = metadata.get("name") or ""
    if store.latest(row.stored_as, metadata.get("namespace") or "", name) is not None:
        raise ApiError(409, "AlreadyExists", f'{row.group_resource} "{name}" already exists')
    return storable


async def store_change(store: Store, request: Operation, obj: Object, old: Object, base: Object) -> Object | None:
    """Store a changed object, or remove it if it is being deleted and has no more finalizers. Return the object.

    Nothing is stored in a dry run, or when nothing changed.

    obj, old: the new and the former object in the version in which writes handle them.
    base: the stored object from which `old` was made.

    Returns the object in the version of `obj`; None when another request has changed the stored object while a webhook
    converted `obj`.
    """
    row, metadata = request.row, obj["metadata"]
    metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
    keep_times(obj, old)
    storable = obj
    if row.conversion is not None:
        storable = await storable_of(row, obj)
        if store.latest(row.stored_as, request.namespace, request.name) is not base:
            return None
    if request.dry_run:
        return obj if row.conversion is None else await shown_of(row, storable)
    if storable == base:
        return old
    if (
        metadata.get("deletionTimestamp")
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and not row.strategy.stays(obj, old)
    ):
        await store.delete(row.stored_as, base)
        return obj
    stored = await _store_within_limits(request, storable, lambda new: store.update(row.stored_as, new, base))
    return stored if row.conversion is None else await shown_of(row, stored)


async def _store_within_limits(request: Operation, obj: Object, write: Callable[[Object], Awaitable[Object]]) -> Object:
    """Store an object. If it is too large, leave out its managed fields, as kube-apiserver does."""
    try:
        return await write(obj)
    except ApiError as error:
        if error.code != 413 or request.is_apply or "managedFields" not in obj["metadata"]:
            raise
    return await write(without_managed(obj))
