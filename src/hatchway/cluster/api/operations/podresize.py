"""The verbs of `pods/resize`: change the cpu and memory of the containers of a pod that may be running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.decoding import bad_result, decode_object
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.storing import latest_of
from hatchway.cluster.api.operations.tracking import set_managed, track, without_managed
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.strategies.podresize import resized, validate_order, validate_resize
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError, invalid
from hatchway.kube.api import Object

__all__ = ["patch_resize", "update_resize"]


async def update_resize(api: Api, request: Operation, obj: Any) -> Object:
    """Set the resources of a pod (PUT pods/NAME/resize). Raises ApiError 400, 403, 404, 409, 422."""
    found = await run_sized(request.size, decode_object, request, obj)
    return await _resize(api, request, lambda _: clone(found))


async def patch_resize(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Set the resources of a pod by applying a function to it (PATCH). Raises like `update_resize`."""

    def patched(old: Object) -> Object:
        made = apply(clone(old if request.sees_managed or request.is_apply else without_managed(old)))
        try:
            return decode_object(request, made)
        except ApiError as error:
            raise bad_result(request, made, error) from None

    return await _resize(api, request, patched)


async def _resize(api: Api, request: Operation, make: Callable[[Object], Object]) -> Object:
    row = request.row

    async def attempt() -> Object | None:
        old = latest_of(api.store, request)
        sent = await run_sized(request.size, make, old)
        meta.match_name(sent, request.name)
        meta.match_namespace(row, sent, request.namespace)
        api.check_identity(row, sent, old)
        new = _changed(request, sent, old)
        attributes = api.attributes(request, "UPDATE", new, old, "resize")
        await api.admit(attributes)
        # Admission plugins may change only resources, like the client.
        new = _changed(request, attributes.object or new, old)
        if causes := await run_sized(request.size, validate_resize, new, old):
            raise invalid("Pod", request.name, causes)
        if new["spec"] != old["spec"]:
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        attributes.object = new
        if (waiting := api.admission.validate(attributes)) is not None:
            await waiting
        write = api.write(request, api.context(request))
        await run_sized(request.size, track, write, request, new, old, None)
        set_managed(request, new)
        if api.store.latest(row.stored_as, request.namespace, request.name) is not old:
            return None
        return await api.store_change(request, new, old)

    return await api.retries.run(request, attempt)


def _changed(request: Operation, sent: Object, old: Object) -> Object:
    """Return the pod with the resources of `sent`, and their defaults. Raises ApiError 422."""
    spec = sent.get("spec") or {}
    if causes := validate_order(spec, old["spec"]):
        raise invalid("Pod", request.name, causes)
    new = clone(resized(spec, old))
    return schema.apply_defaults(request.row.gvk, new)
