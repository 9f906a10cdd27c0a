"""Subresources of stored objects: status, scale, binding, eviction, finalize, and computed ones.

`SUBRESOURCES` has the verbs of each; the registry's rows say which types have it. A computed subresource is not stored:
a handler makes the answer (`serviceaccounts/token`). Subresources that connect a client with a pod, a service or a node
(`proxy`, `log`) are in `connect/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.fields.ownership import update
from hatchway.cluster.api.fields.scalefields import to_object, to_scale
from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.approval import patch_approval, update_approval
from hatchway.cluster.api.operations.decoding import bad_result, decode_object
from hatchway.cluster.api.operations.eviction import evict_pod
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.podresize import patch_resize, update_resize
from hatchway.cluster.api.operations.requestoptions import DeleteOptions
from hatchway.cluster.api.operations.tracking import scale_write, set_managed, track
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.operations.versions import current_of
from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.scaling import ScalePaths
from hatchway.cluster.api.registry.resource import Resource, Subresource
from hatchway.cluster.api.registry.selectors import format_label_selector
from hatchway.cluster.api.registry.strategies.podephemeral import validate_ephemeral_change
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError, Cause, bad_request, conflict, internal, invalid, method_not_allowed, not_found
from hatchway.kube.api import Object

_SCALE = ("autoscaling", "v1", "Scale")
_BINDING = ("", "v1", "Binding")
_EVICTION = ("policy", "v1", "Eviction")
_SCALE_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def _latest(api: Api, request: Operation) -> Object:
    """Return the object in its latest version, which may still be on its way to the disk. Raises ApiError 404."""
    row = request.row
    found = api.store.latest(row.stored_as, request.namespace, request.name)
    if found is None:
        raise not_found(row.plural, request.name, row.group)
    return found


def _typed(gvk: tuple[str, str, str], request: Operation, obj: Any) -> Object:
    """Decode an object of another type than the row's. Raises ApiError 400."""
    group, version, kind = gvk
    wanted = f"{group}/{version}" if group else version
    if not isinstance(obj, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind")
    found = obj.get("apiVersion") or wanted, obj.get("kind") or kind
    # eviction is served as policy/v1; v1beta1 has the same shape and old clients send it.
    if found not in ((wanted, kind), (f"{group}/v1beta1", kind)):
        raise bad_request(f'{found[1]} in version "{found[0]}" cannot be handled as a {kind}')
    checked = schema.check(gvk, {**obj, "apiVersion": wanted, "kind": kind})
    request.check_strict(checked, gvk)
    result = checked.object
    result.setdefault("metadata", {})
    return result


# Scale (autoscaling/v1) of workloads


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
    """Return the Scale of a custom object. Raises ApiError 500 when it does not say how many replicas it wants."""
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
    """Set the replicas of an object by a function of its Scale. Raises like `update_scale`."""
    return await _rescale(api, request, apply, is_patch=True)


async def _rescale(api: Api, request: Operation, make: Callable[[Object], Any], *, is_patch: bool = False) -> Object:
    row, paths = request.row, _paths(request)
    where = _replicas_paths(api, row, paths)

    async def admitted() -> tuple[Object, Object] | None:
        """Return the Scale that admission leaves, and the object that it belongs to."""
        base = _latest(api, request)
        old = await current_of(row, base)
        former = scale_of(row, old) if paths is None else _scale_at(old, paths)
        # Other requests may run meanwhile; storing the change detects whether they have changed this object.
        scale = await run_sized(request.size, _made_scale, request, make, former, is_patch, old, where)
        _check_scale(api, request, scale, old)
        attributes = api.attributes(request, "UPDATE", scale, former, "scale", kind=_SCALE)
        if await api.judge(attributes):
            scale = attributes.object or scale
            _check_scale(api, request, scale, old)
            if _latest(api, request) is not base:
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
    """Return the names of the fields that lead to the replicas, in each version of the type."""
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
    """Raise ApiError 400, 409 or 422 for a Scale that cannot be that of the object."""
    meta.match_name(scale, request.name)
    meta.match_namespace(request.row, scale, request.namespace)
    api.check_identity(request.row, scale, old)
    causes = v.non_negative((scale.get("spec") or {}).get("replicas") or 0, "spec.replicas")
    if causes:
        raise invalid("Scale", request.name, causes, "autoscaling")


async def _rescale_custom(api: Api, request: Operation, scale: Object, paths: ScalePaths, replicas: int) -> Object:
    """Set the replicas of a custom object, which is validated as with any other change."""
    request.has_managed = True

    def apply(obj: Object) -> Object:
        api.check_identity(request.row, scale, obj)
        paths.set_replicas(obj, replicas)
        return obj

    return _scale_at(await api.patch(request, apply, admitted=True), paths)


def _made_scale(
    request: Operation,
    make: Callable[[Object], Any],
    current: Object,
    is_patch: bool,
    owner: Object,
    paths: Mapping[str, tuple[str, ...]],
) -> Object:
    """Return the Scale that a client wants, and record in the request the managed fields of its object.

    owner: the object. paths: where its replicas are, in each version.
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
        return _typed(_SCALE, request, made)
    except ApiError as error:
        if is_patch:
            raise bad_result(request, made, error) from None
        raise


# Pods


async def create_object(api: Api, request: Operation, body: Any) -> Object:
    """Create an object of a row; a Binding (POST bindings) binds the pod that it names. Raises as `Api.create`."""
    if request.row.gvk != _BINDING:
        return await api.create(request, body)
    binding = await run_sized(request.size, _typed, _BINDING, request, body)
    if not (name := binding["metadata"].get("name")):
        raise bad_request("Name parameter required.")
    pods = api.registry.by_name("pods")
    assert pods is not None
    attributes = api.attributes(replace(request, name=name), "CREATE", binding, None)
    return await _bind(api, replace(request, row=pods, name=name), binding, attributes)


async def bind(api: Api, request: Operation, body: Any) -> Object:
    """Bind a pod to a node (POST pods/NAME/binding). Raises ApiError 409 when it has one or is being deleted."""
    binding = await run_sized(request.size, _typed, _BINDING, request, body)
    if (binding["metadata"].get("name") or "") != request.name:
        raise bad_request("name in URL does not match name in Binding object")
    attributes = api.attributes(request, "CREATE", binding, None, "binding", kind=_BINDING)
    return await _bind(api, request, binding, attributes)


async def _bind(api: Api, request: Operation, binding: Object, attributes: AdmissionAttributes) -> Object:
    """Bind the pod of a request. attributes: the facts about the Binding for admission."""
    meta.match_namespace(request.row, binding, request.namespace)
    target = binding.get("target") or {}
    causes = []
    if target.get("kind") not in ("", "Node", None):
        causes.append(v.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        causes.append(v.required("target.name"))
    if causes:
        raise invalid("Binding", binding["metadata"].get("name") or "", causes)
    _latest(api, request)
    await api.judge(attributes)
    binding = attributes.object or binding
    target = binding.get("target") or {}
    pod = _latest(api, request)
    metadata = pod["metadata"]
    wanted = binding["metadata"].get("uid")
    problem = ""
    if wanted and wanted != metadata["uid"]:
        problem = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {metadata['uid']}"
    elif metadata.get("deletionTimestamp"):
        problem = f"pod {request.name} is being deleted, cannot be assigned to a host"
    elif pod["spec"].get("schedulingGates"):
        problem = f"pod {request.name} has non-empty .spec.schedulingGates"
    elif pod["spec"].get("nodeName"):
        problem = f"pod {request.name} is already assigned to node {v.quote(pod['spec']['nodeName'])}"
    if problem:
        raise conflict("pods/binding", request.name, problem)
    obj = clone(pod)
    obj["spec"]["nodeName"] = target["name"]
    for key in ("annotations", "labels"):
        if binding["metadata"].get(key):
            obj["metadata"][key] = {**(obj["metadata"].get(key) or {}), **binding["metadata"][key]}
    status = obj.setdefault("status", {})
    conditions = [one for one in status.get("conditions") or () if one.get("type") != "PodScheduled"]
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": meta.timestamp(),
    }
    status["conditions"] = [*conditions, scheduled]
    await api.store_change(request, obj, pod)
    return _success(201)


async def evict(api: Api, request: Operation, body: Any) -> Object:
    """Delete a pod because of an Eviction (POST pods/NAME/eviction), unless a disruption budget forbids it."""
    eviction = await run_sized(request.size, _typed, _EVICTION, request, body)
    if (eviction["metadata"].get("name") or "") != request.name:
        raise bad_request("name in URL does not match name in Eviction object")
    attributes = api.attributes(request, "CREATE", eviction, None, "eviction", kind=_EVICTION)
    await api.judge(attributes)
    wanted = (attributes.object or eviction).get("deleteOptions") or {}
    preconditions = wanted.get("preconditions") or {}
    options = DeleteOptions(
        wanted.get("gracePeriodSeconds"),
        wanted.get("propagationPolicy") or "",
        None,
        preconditions.get("uid") or "",
        preconditions.get("resourceVersion") or "",
        request.dry_run or bool(wanted.get("dryRun")),
    )
    await evict_pod(api, request, _latest(api, request), options)
    return _success(201)


async def update_ephemeral(api: Api, request: Operation, obj: Any) -> Object:
    """Add ephemeral containers to a pod (PUT pods/NAME/ephemeralcontainers). Raises ApiError 400, 404, 409, 422."""
    return await _add_ephemeral(api, request, await run_sized(request.size, decode_object, request, obj), None)


async def patch_ephemeral(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Add ephemeral containers by a function of the pod. Raises like `update_ephemeral`."""
    old = _latest(api, request)
    made = await run_sized(request.size, lambda: apply(clone(old)))
    try:
        obj = await run_sized(request.size, decode_object, request, made)
    except ApiError as error:
        raise bad_result(request, made, error) from None
    return await _add_ephemeral(api, request, obj, old)


async def _add_ephemeral(api: Api, request: Operation, obj: Object, old: Object | None) -> Object:
    meta.match_name(obj, request.name)
    meta.match_namespace(request.row, obj, request.namespace)
    old = old if old is not None else _latest(api, request)
    api.check_identity(request.row, obj, old)
    # Storing the change detects whether another request has changed the pod meanwhile.
    attributes = api.attributes(request, "UPDATE", obj, old, "ephemeralcontainers")
    await api.admit(attributes)
    obj = attributes.object or obj
    # Everything else in the pod stays as it is, whatever the client has sent.
    write = api.write(request, api.context(request))
    new = clone(old)
    new["spec"]["ephemeralContainers"] = (obj.get("spec") or {}).get("ephemeralContainers") or []
    if causes := await run_sized(request.size, validate_ephemeral_change, new, old):
        raise invalid("Pod", request.name, causes)
    attributes.object = new
    if (waiting := api.admission.validate(attributes)) is not None:
        await waiting
    if not new["spec"]["ephemeralContainers"]:
        del new["spec"]["ephemeralContainers"]
    if new["spec"] != old["spec"]:
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    await run_sized(request.size, track, write, request, new, old, None)
    set_managed(request, new)
    return await api.store_change(request, new, old)


def _success(code: int) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}


# Namespaces


async def finalize(api: Api, request: Operation, body: Any) -> Object:
    """Set spec.finalizers (PUT namespaces/NAME/finalize); a Terminating namespace without any is removed."""
    obj = await run_sized(request.size, decode_object, request, body)
    meta.match_name(obj, request.name)
    finalizers = (obj.get("spec") or {}).get("finalizers") or []
    causes = await run_sized(request.size, _finalizer_causes, finalizers)
    old = _latest(api, request)
    api.check_identity(request.row, obj, old)
    if causes:
        raise invalid("Namespace", request.name, causes)
    attributes = api.attributes(request, "UPDATE", obj, old, "finalize")
    await api.judge(attributes)
    finalizers = ((attributes.object or obj).get("spec") or {}).get("finalizers") or []
    if causes := _finalizer_causes(finalizers):
        raise invalid("Namespace", request.name, causes)
    new = {**old, "metadata": dict(old["metadata"]), "spec": {"finalizers": finalizers} if finalizers else {}}
    track(api.write(request, api.context(request)), request, new, old, None)
    set_managed(request, new)
    return await api.store_change(request, new, old)


def _finalizer_causes(finalizers: list[str]) -> list[Cause]:
    return [
        cause
        for index, one in enumerate(finalizers)
        for cause in (
            *v.each(f"spec.finalizers[{index}]", one, v.qualified_name(one)),
            *v.standard_finalizer(one, f"spec.finalizers[{index}]"),
        )
    ]


# Status


async def get_status(api: Api, request: Operation) -> Object:
    """Return the whole object, as GET of `status` and `ephemeralcontainers` does."""
    return await api.get(request.row, request.namespace, request.name)


async def update_status(api: Api, request: Operation, obj: Any) -> Object:
    """Replace the status of an object. Raises like `Api.update`."""
    return (await api.update(request, obj, status=True))[0]


async def patch_status(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Change the status of an object. Raises like `Api.patch`."""
    return await api.patch(request, apply, status=True)


# Computed ones


async def create_computed(api: Api, request: Operation, subresource: Subresource, obj: Any) -> Object:
    """Answer a POST to a computed subresource (`serviceaccounts/token`) by its handler.

    Raises ApiError 404 when the object itself does not exist.
    """
    row = request.row
    if api.store.get(row.stored_as, request.namespace, request.name) is None:
        raise not_found(row.plural, request.name, row.group)
    group, version, kind = row.subresource_gvk(subresource)
    typed = Resource(group, version, row.plural, row.singular, kind, row.namespaced)
    return await api.create_virtual(request, f"{row.group_resource}/{subresource.name}", typed, obj)


# The table


async def _no_get(_api: Api, request: Operation) -> Object:
    raise method_not_allowed(request.row.plural, "get", request.row.group)


async def _no_change(_api: Api, request: Operation, _change: Any) -> Object:
    raise method_not_allowed(request.row.plural, "update", request.row.group)


@dataclass(frozen=True, slots=True)
class SubresourceVerbs:
    """The verbs of one subresource; a verb that it does not have raises ApiError 405.

    get: returns it. create, update: take the object that the client sent. patch: takes a function of the current one.
    """

    get: Callable[[Api, Operation], Awaitable[Object]] = _no_get
    create: Callable[[Api, Operation, Any], Awaitable[Object]] = _no_change
    update: Callable[[Api, Operation, Any], Awaitable[Object]] = _no_change
    patch: Callable[[Api, Operation, Callable[[Object], Any]], Awaitable[Object]] = _no_change


SUBRESOURCES = {
    "approval": SubresourceVerbs(get=get_status, update=update_approval, patch=patch_approval),
    "binding": SubresourceVerbs(create=bind),
    "ephemeralcontainers": SubresourceVerbs(get=get_status, update=update_ephemeral, patch=patch_ephemeral),
    "eviction": SubresourceVerbs(create=evict),
    "finalize": SubresourceVerbs(update=finalize),
    "resize": SubresourceVerbs(get=get_status, update=update_resize, patch=patch_resize),
    "scale": SubresourceVerbs(get=get_scale, update=update_scale, patch=patch_scale),
    "status": SubresourceVerbs(get=get_status, update=update_status, patch=patch_status),
}


def verbs_of(api: Api, row: Resource, subresource: Subresource) -> SubresourceVerbs | None:
    """Return the verbs of a row's subresource; None when nothing serves it."""
    found = SUBRESOURCES.get(subresource.name)
    if found is None and f"{row.group_resource}/{subresource.name}" in api.registry.virtual:

        async def create(api: Api, request: Operation, obj: Any) -> Object:
            return await create_computed(api, request, subresource, obj)

        found = SubresourceVerbs(create=create)
    return found
