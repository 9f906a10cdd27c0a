"""Deletes objects: at once, gracefully, or after their finalizers.

The behaviour is that of apiserver's `registry/rest/delete.go` and `registry/generic/registry/store.go`. A DELETE only
sets the deletionTimestamp of an object that has finalizers, or that must end first (a pod on a node, a namespace).
Such an object is removed together with its last finalizer, or by another DELETE with grace period 0. The kubelet sends
this second DELETE when a pod has ended.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hatchway.cluster.api.operations.listing import Page
from hatchway.cluster.api.operations.metadata import timestamp
from hatchway.cluster.api.operations.operation import Operation
from hatchway.cluster.api.operations.requestoptions import DeleteOptions, ListOptions
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.operations.versions import current_of, with_metadata
from hatchway.cluster.api.registry.resource import Resource
from hatchway.errors import ApiError, conflict, not_found
from hatchway.kube.api import Object

_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"


async def delete(
    api: Api, request: Operation, options: DeleteOptions, *, admitted: bool = False, collection: bool = False
) -> tuple[Object, bool]:
    """Delete one object. Return the answer (the object or a Status), and True if the object is removed already.

    admitted: True if the request has already passed admission as a request for a subresource (an eviction).
    collection: True if the client deletes a collection.

    Raises ApiError: 403 (this object cannot be deleted), 404, 409 (a precondition fails), 500 and 504 (a conversion).
    """
    row = request.row

    async def admit() -> tuple[Object, Object] | None:
        """Run admission. Return the object twice: as stored, and in the row's version; None if it changed meanwhile."""
        base = api.store.latest(row.stored_as, request.namespace, request.name)
        if base is None:
            raise not_found(row.plural, request.name, row.group)
        check_preconditions(row, base, options)
        row.strategy.check_deletion(base)
        old = await current_of(row, base)
        if not admitted:
            attributes = api.attributes(request, "DELETE", None, old, options=options)
            if collection:
                attributes.name = ""
            await api.run_admission(attributes)
        # If the admission or the conversion had to wait, other requests ran meanwhile.
        return (base, old) if api.store.latest(row.stored_as, request.namespace, request.name) is base else None

    base, old = await api.retries.run(request, admit)
    warning = row.strategy.propagation_warning
    if warning and not options.propagation and options.orphan is None and warning not in request.warnings:
        request.warnings.append(warning)
    # A deletion changes the metadata only. The object stays in the version in which it is stored.
    obj, at_once = _marked(row, base, options)
    if not at_once:
        if obj == base:
            return _shown(row, old, base), False
        if not options.dry_run:
            obj = await api.store.update(row.stored_as, obj, base, bounded=False)
        return _shown(row, old, obj), False
    if not options.dry_run:
        await api.store.delete(row.stored_as, base)
    if row.strategy.return_deleted:
        return _shown(row, old, obj), True
    return _gone(row, base), True


async def delete_collection(api: Api, request: Operation, options: DeleteOptions, selection: ListOptions) -> Page:
    """Delete all matching objects, one by one, and return them. Other requests may delete some of them first."""
    page = await api.list(request.row, request.namespace or None, replace(selection, limit=0, continue_token=""))
    for obj in page.items:
        metadata = obj["metadata"]
        one = replace(request, namespace=metadata.get("namespace") or "", name=metadata["name"])
        try:
            await delete(api, one, options, collection=True)
        except ApiError as error:
            if error.code != 404:
                raise
    return page


def _shown(row: Resource, old: Object, obj: Object) -> Object:
    """Return an object in the client's version. old: the former object in that version. obj: the stored object."""
    if row.conversion is not None:
        return with_metadata(old, obj)
    return row.from_storage(obj) if row.from_storage else obj


def _gone(row: Resource, old: Object) -> Object:
    details: dict[str, Any] = {"name": old["metadata"]["name"]}
    if row.group:
        details["group"] = row.group
    details["kind"] = row.plural
    details["uid"] = old["metadata"]["uid"]
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def check_preconditions(row: Resource, old: Object, options: DeleteOptions) -> None:
    """Raise ApiError 409 when the object has another UID or resourceVersion than the preconditions."""
    metadata = old["metadata"]
    for wanted, found, what in (
        (options.uid, metadata["uid"], "UID"),
        (options.resource_version, metadata["resourceVersion"], "ResourceVersion"),
    ):
        if wanted and wanted != found:
            why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). "
            why += (
                "The object might have been deleted and then recreated"
                if what == "UID"
                else "The object might have been modified"
            )
            raise conflict(row.kind, metadata["name"], why, row.group)


def _marked(row: Resource, old: Object, options: DeleteOptions) -> tuple[Object, bool]:
    """Return the object with the changes of the deletion, and True if it is removed at once."""
    metadata = dict(old["metadata"])
    obj = {**old, "metadata": metadata}
    finalizers = _finalizers(metadata, options, row.strategy.default_propagation)
    if finalizers != (metadata.get("finalizers") or []):
        metadata["finalizers"] = finalizers
        if not finalizers:
            del metadata["finalizers"]

    grace = row.strategy.grace_period(old, options.grace_period)
    if metadata.get("deletionTimestamp"):
        return _shortened(row, old, obj, options, grace)
    now = datetime.now(UTC)
    stays = row.strategy.begin_deletion(obj)
    waits = bool(grace) or bool(finalizers) or stays
    if grace is not None or waits:
        metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace or 0))
        if stays:
            return obj, False
        metadata["deletionGracePeriodSeconds"] = grace or 0
        if metadata.get("generation"):
            metadata["generation"] += 1
    return obj, not waits


def _shortened(
    row: Resource, old: Object, obj: Object, options: DeleteOptions, grace: int | None
) -> tuple[Object, bool]:
    """Apply a DELETE to an object that is already being deleted. Return the object, and True if it is removed at once.

    The DELETE may only shorten the grace period.
    """
    metadata = obj["metadata"]
    held = row.strategy.is_held(obj)
    former = metadata.get("deletionGracePeriodSeconds") or 0
    if former == 0:
        return obj, not held
    if options.grace_period is None or grace is None or grace >= former:
        return obj if held else old, False
    began = datetime.fromisoformat(metadata["deletionTimestamp"]) - timedelta(seconds=former)
    metadata["deletionTimestamp"] = timestamp(began + timedelta(seconds=grace))
    metadata["deletionGracePeriodSeconds"] = grace
    return obj, grace == 0 and not held


def _finalizers(metadata: dict[str, Any], options: DeleteOptions, default: str) -> list[str]:
    """Return the finalizers for the propagation policy (`deletionFinalizersForGarbageCollection`).

    default: the type's policy for clients that name no policy; "" for Background.
    """
    found: list[str] = list(metadata.get("finalizers") or ())
    policy = options.propagation
    if not policy and options.orphan is not None:
        policy = "Orphan" if options.orphan else "Background"
    if not policy and not {_ORPHAN, _FOREGROUND} & set(found):
        policy = default
    if not policy:
        return found
    wanted = {"Orphan": _ORPHAN, "Foreground": _FOREGROUND}.get(policy)
    kept = [one for one in found if one not in (_ORPHAN, _FOREGROUND) or one == wanted]
    return [*kept, wanted] if wanted and wanted not in kept else kept
