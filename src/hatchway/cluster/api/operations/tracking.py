"""Computes the field ownership of writes with `fields/`, and applies configurations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, ParamSpec

from hatchway.cluster.api.fields import ownership
from hatchway.cluster.api.fields.atoms import blank_object, builtin_atom
from hatchway.cluster.api.fields.managers import same_but_times
from hatchway.cluster.api.fields.ownership import ApplyConflict, BadConfiguration, FieldType, FieldWrite
from hatchway.cluster.api.fields.pathset import PathSet, make, show
from hatchway.cluster.api.operations.fieldversions import ConversionNeeded, FieldVersions, with_conversions
from hatchway.cluster.api.operations.metadata import timestamp
from hatchway.cluster.api.operations.operation import Operation
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.types import Registry
from hatchway.cluster.api.work import HEAVY, run_sized
from hatchway.errors import ApiError, bad_request
from hatchway.kube.api import Object

__all__ = [
    "applier",
    "keep_times",
    "scale_write",
    "set_managed",
    "track",
    "track_with_conversions",
    "without_managed",
    "write_of",
]

P = ParamSpec("P")
GVK = tuple[str, str, str]
_log = logging.getLogger(__name__)
_SCALE: GVK = ("autoscaling", "v1", "Scale")
_NO_FIELDS: PathSet = {}
_STATUS = make(("status",))
_SPEC = make(("spec",))
# A write of the status does not change these fields (`GetResetFields` of the registry's strategies).
_CUSTOM_STATUS = make(("spec",), ("metadata",))
_POD_STATUS = make(("spec",), ("metadata", "deletionTimestamp"), ("metadata", "ownerReferences"))
_blank = lru_cache(512)(blank_object)


def _reset(row: Resource, subresource: str) -> PathSet:
    if subresource == "status":
        if row.own_schema is not None:
            return _CUSTOM_STATUS
        return _POD_STATUS if row.stored_as == "pods" else _SPEC
    return _STATUS if not subresource and row.subresource("status") is not None else _NO_FIELDS


def write_of(registry: Registry, request: Operation, now: str, size: int = HEAVY) -> FieldWrite:
    """Describe the write of a request. now: RFC 3339. size: bytes of JSON of the object."""
    row = request.row
    blank = _blank(row.gvk) if row.own_schema is None else {"apiVersion": row.api_version, "kind": row.kind}
    return FieldWrite(
        request.manager,
        row.api_version,
        request.subresource,
        FieldVersions(registry, row),
        blank,
        _reset(row, request.subresource),
        now,
        size >= HEAVY,
        row.own_schema is not None,
    )


def scale_write(request: Operation, now: str) -> FieldWrite:
    """Describe the write of a Scale."""
    types = {"autoscaling/v1": FieldType(builtin_atom(_SCALE))}
    return FieldWrite(request.manager, "autoscaling/v1", "scale", types, _blank(_SCALE), _STATUS, now)


def track(write: FieldWrite, request: Operation, obj: Object, old: Object | None, given: Any) -> None:
    """Compute the managed fields of a written object, and record them in the request.

    obj, old: the new and the former stored object; old is None for a new object.
    given: the managed fields that the client sent.
    """
    if request.has_managed:
        return
    convert = request.row.from_storage
    if convert is not None:
        obj, old = convert(obj), convert(old) if old is not None else None
    try:
        request.managed = ownership.update(write, old, obj, given)
    except ConversionNeeded as needed:
        needed.again = partial(track, write, request, obj, old, given)
        raise


async def track_with_conversions(
    size: int, request: Operation, obj: Object, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs
) -> bool:
    """Run a step of a write. Return True if a webhook had to convert objects.

    If a conversion fails, the object loses its managed fields, as in Kubernetes (`UpdateNoErrors` of
    `fieldmanager.go`).

    obj: the object that the step changes.
    step, args, kwargs: the step and its arguments. The step must call `track` and `set_managed` last.
    """
    try:
        await run_sized(size, step, *args, **kwargs)
        return False
    except ConversionNeeded as needed:
        first = needed
    again = first.again
    try:
        await first.supply()
        await with_conversions(lambda: run_sized(size, again))
    except ApiError as error:
        _log.warning("the managed fields of %s %s: %s", request.row.group_resource, request.name, error.message)
        request.managed = None
    set_managed(request, obj)
    return True


def without_managed(obj: Object) -> Object:
    """Return an object without its managed fields. All other parts are shared with the argument."""
    metadata = obj["metadata"]
    if "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {key: one for key, one in metadata.items() if key != "managedFields"}}


def set_managed(request: Operation, obj: Object) -> None:
    """Put the managed fields of the write into the object."""
    if request.managed:
        obj["metadata"]["managedFields"] = request.managed
    else:
        obj["metadata"].pop("managedFields", None)


def keep_times(obj: Object, old: Object) -> None:
    """Restore the former managed fields if the write changed only their times, so that nothing has to be stored.

    Source: apiserver's `IgnoreManagedFieldsTimestampsTransformer`.
    """
    metadata, former = obj["metadata"], old["metadata"].get("managedFields")
    managed = metadata.get("managedFields")
    if managed is former or not managed or not former or not same_but_times(managed, former):
        return
    metadata["managedFields"] = former
    if obj != old:
        metadata["managedFields"] = managed


def applier(write: FieldWrite, request: Operation, gvk: GVK, config: Any) -> Callable[[Object | None], Object]:
    """Return a function that applies a configuration to an object, or creates an object from it (argument None).

    The function records the managed fields in the request.

    Raises ApiError 400 for a configuration of another kind. The function raises ApiError 409 for conflicts, and 500 for
    a configuration that does not fit the type, as Kubernetes does.
    """
    config = _checked(gvk, config)

    def make_object(live: Object | None) -> Object:
        try:
            obj = ownership.apply(replace(write, now=timestamp()), live, config, force=request.force)
        except ApplyConflict as error:
            causes = [
                {
                    "reason": "FieldManagerConflict",
                    "message": f"conflict with {owner.shown}",
                    "field": show(path),
                }
                for owner, path in error.conflicts[:_MOST_CAUSES]
            ]
            raise ApiError(409, "Conflict", error.message[:_LONGEST_MESSAGE], {"causes": causes}) from None
        except BadConfiguration as error:
            raise ApiError(500, "", str(error)) from None
        request.managed = obj["metadata"].pop("managedFields", None)
        request.has_managed = True
        return obj

    return make_object


# Limits of the answer to conflicts, because every field of a large object may be in conflict.
_MOST_CAUSES = 1000
_LONGEST_MESSAGE = 64 * 1024


def _checked(gvk: GVK, config: Any) -> Object:
    """Check the kind of a configuration, and return it (apimachinery's `managedfields/internal/versioncheck.go`)."""
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise bad_request("error decoding patch: the configuration must be an object")
    version, kind = config.get("apiVersion"), config.get("kind")
    group, _, version = (version if isinstance(version, str) else "").rpartition("/")
    kind = kind if isinstance(kind, str) else ""
    if (group, version, kind) != gvk:
        raise bad_request(f"invalid object type: {group}/{version}, Kind={kind}")
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("managedFields"), list):
        raise bad_request("metadata.managedFields must be nil")
    return config
