"""The subresource `scale`: the Scale (autoscaling/v1) of workloads and of custom objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hatchway.cluster.api.fields.ownership import update
from hatchway.cluster.api.fields.scalefields import to_object, to_scale
from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.decoding import bad_result, decode_typed
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.storing import latest_of
from hatchway.cluster.api.operations.tracking import scale_write, set_managed
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.operations.versions import current_of
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.scaling import ScalePaths
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.selectors import format_label_selector
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError, internal, invalid
from hatchway.kube.api import Object

__all__ = ["get_scale", "patch_scale", "scale_of", "update_scale"]

_SCALE = ("autoscaling", "v1", "Scale")
_SCALE_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(row: Resource, obj: Object) -> Object:
    """Return an object's Scale."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    replicas = spec.get("replicas") or 0
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in _SCALE_METADATA if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": status.get("replicas") or 0,
            "selector": format_label_selector(row.strategy.scale_selector(obj)),
        },
    }


def _scale_at(obj: Object, paths: ScalePaths) -> Object:
    """Return the Scale of a custom object. Raises ApiError 500 when the object has no number of replicas."""
    replicas = paths.replicas(obj)
    if replicas is None:
        raise internal(f'the spec replicas field "{paths.spec}" does not exist')
    metadata = obj["metadata"]
    selected = paths.selected(obj)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in _SCALE_METADATA if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": paths.current(obj), **({"selector": selected} if selected else {})},
    }


def _paths(request: Operation) -> ScalePaths | None:
    found = request.row.subresource("scale")
    return found.scale if found is not None else None


async def get_scale(api: Api, request: Operation) -> Object:
    """Return the Scale of an object. Raises ApiError 404."""
    row = request.row
    obj, paths = await api.get(row, request.namespace, request.name), _paths(request)
    return scale_of(row, obj) if paths is None else _scale_at(obj, paths)


async def update_scale(api: Api, request: Operation, obj: Any) -> Object:
    """Set the replicas of an object from a Scale. Return the new Scale. Raises ApiError 400, 404, 409, 422."""
    return await _rescale(api, request, lambda _: obj)


async def patch_scale(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Set the replicas of an object by applying a function to its Scale (PATCH). Raises like `update_scale`."""
    return await _rescale(api, request, apply, is_patch=True)


async def _rescale(api: Api, request: Operation, make: Callable[[Object], Any], *, is_patch: bool = False) -> Object:
    row, paths = request.row, _paths(request)
    where = _replicas_paths(api, row, paths)

    async def admitted() -> tuple[Object, Object] | None:
        """Return the Scale after admission, and the object to which it belongs; None if this object has changed."""
        base = latest_of(api.store, request)
        old = await current_of(row, base)
        former = scale_of(row, old) if paths is None else _scale_at(old, paths)
        # Other requests may change this object meanwhile. Storing the change detects this.
        scale = await run_sized(request.size, _take_scale, request, make, former, is_patch, old, where)
        _check_scale(api, request, scale, old)
        attributes = api.attributes(request, "UPDATE", scale, former, "scale", kind=_SCALE)
        if await api.run_admission(attributes):
            scale = attributes.object or scale
            _check_scale(api, request, scale, old)
            if latest_of(api.store, request) is not base:
                return None
        return scale, old

    scale, old = await api.retries.run(request, admitted)
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if paths is not None:
        return await _rescale_custom(api, request, scale, paths, replicas)
    obj = clone(old)
    obj["spec"]["replicas"] = replicas
    set_managed(request, obj)
    if obj["spec"] != old["spec"]:
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return scale_of(row, await api.store_change(request, obj, old))


def _replicas_paths(api: Api, row: Resource, paths: ScalePaths | None) -> dict[str, tuple[str, ...]]:
    """Return the path of the field with the number of replicas, by apiVersion of the type."""
    rows = [one for one in api.registry.rows if one.stored_as == row.stored_as]
    if paths is None:
        return {one.api_version: ("spec", "replicas") for one in rows}
    scales = {one.api_version: one.subresource("scale") for one in rows}
    return {
        version: tuple(found.scale.spec.removeprefix(".").split("."))
        for version, found in scales.items()
        if found is not None and found.scale is not None
    }


def _check_scale(api: Api, request: Operation, scale: Object, old: Object) -> None:
    """Raise ApiError 400, 409 or 422 for a Scale that does not belong to the object or is not valid."""
    meta.match_name(scale, request.name)
    meta.match_namespace(request.row, scale, request.namespace)
    api.check_identity(request.row, scale, old)
    causes = v.non_negative((scale.get("spec") or {}).get("replicas") or 0, "spec.replicas")
    if causes:
        raise invalid("Scale", request.name, causes, "autoscaling")


async def _rescale_custom(api: Api, request: Operation, scale: Object, paths: ScalePaths, replicas: int) -> Object:
    """Set the replicas of a custom object. The object is validated like after any other change."""
    request.has_managed = True

    def apply(obj: Object) -> Object:
        api.check_identity(request.row, scale, obj)
        paths.set_replicas(obj, replicas)
        return obj

    return _scale_at(await api.patch(request, apply, admitted=True), paths)


def _take_scale(
    request: Operation,
    make: Callable[[Object], Any],
    current: Object,
    is_patch: bool,
    owner: Object,
    paths: Mapping[str, tuple[str, ...]],
) -> Object:
    """Decode the Scale that a client sent, and record in the request the managed fields of the Scale's object.

    make: applied to the current Scale; returns the new Scale.
    owner: the Scale's object.
    paths: the path of the owner's field with the number of replicas, by apiVersion.
    """
    entries = owner["metadata"].get("managedFields") or []
    given = to_scale(entries, paths)
    if given:
        current["metadata"]["managedFields"] = given
    before = clone(current)
    scale = _decoded_scale(request, make, current, is_patch)
    if not request.is_apply:
        request.managed = update(scale_write(request, meta.timestamp()), before, scale, None)
    request.managed = to_object(entries, request.managed, paths, owner["apiVersion"])
    return scale


def _decoded_scale(request: Operation, make: Callable[[Object], Any], current: Object, is_patch: bool) -> Object:
    made = make(current)
    try:
        return decode_typed(_SCALE, request, made)
    except ApiError as error:
        if is_patch:
            raise bad_result(request, made, error) from None
        raise
