"""Subresources of stored objects: status, binding, eviction, finalize, ephemeral containers, and computed ones.

`SUBRESOURCES` has the verbs of each subresource; the registry's rows say which types have it. A computed subresource
(`serviceaccounts/token`) is not stored: a handler makes the answer. Subresources that connect a client with a pod, a
service or a node (`proxy`, `log`) are in `connect/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.approval import patch_approval, update_approval
from hatchway.cluster.api.operations.decoding import bad_result, decode_object, decode_typed
from hatchway.cluster.api.operations.eviction import evict_pod
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.podresize import patch_resize, update_resize
from hatchway.cluster.api.operations.requestoptions import DeleteOptions
from hatchway.cluster.api.operations.scale import get_scale, patch_scale, update_scale
from hatchway.cluster.api.operations.storing import latest_of
from hatchway.cluster.api.operations.tracking import set_managed, track
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.resource import Resource, Subresource
from hatchway.cluster.api.registry.strategies.podephemeral import validate_ephemeral_change
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError, Cause, bad_request, conflict, invalid, method_not_allowed, not_found
from hatchway.kube.api import Object

_BINDING = ("", "v1", "Binding")
_EVICTION = ("policy", "v1", "Eviction")


# Pods


async def create_object(api: Api, request: Operation, body: Any) -> Object:
    """Create an object. For a Binding (POST bindings), bind the pod that it names. Raises like `Api.create`."""
    if request.row.gvk != _BINDING:
        return await api.create(request, body)
    binding = await run_sized(request.size, decode_typed, _BINDING, request, body)
    if not (name := binding["metadata"].get("name")):
        raise bad_request("Name parameter required.")
    pods = api.registry.by_name("pods")
    assert pods is not None
    attributes = api.attributes(replace(request, name=name), "CREATE", binding, None)
    return await _bind(api, replace(request, row=pods, name=name), binding, attributes)


async def bind(api: Api, request: Operation, body: Any) -> Object:
    """Bind a pod to a node (POST pods/NAME/binding). Raises ApiError 409 when it has a node or is being deleted."""
    binding = await run_sized(request.size, decode_typed, _BINDING, request, body)
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
    latest_of(api.store, request)
    await api.run_admission(attributes)
    binding = attributes.object or binding
    target = binding.get("target") or {}
    pod = latest_of(api.store, request)
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
    eviction = await run_sized(request.size, decode_typed, _EVICTION, request, body)
    if (eviction["metadata"].get("name") or "") != request.name:
        raise bad_request("name in URL does not match name in Eviction object")
    attributes = api.attributes(request, "CREATE", eviction, None, "eviction", kind=_EVICTION)
    await api.run_admission(attributes)
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
    await evict_pod(api, request, latest_of(api.store, request), options)
    return _success(201)


async def update_ephemeral(api: Api, request: Operation, obj: Any) -> Object:
    """Add ephemeral containers to a pod (PUT pods/NAME/ephemeralcontainers). Raises ApiError 400, 404, 409, 422."""
    return await _add_ephemeral(api, request, await run_sized(request.size, decode_object, request, obj), None)


async def patch_ephemeral(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Add ephemeral containers by applying a function to the pod (PATCH). Raises like `update_ephemeral`."""
    old = latest_of(api.store, request)
    made = await run_sized(request.size, lambda: apply(clone(old)))
    try:
        obj = await run_sized(request.size, decode_object, request, made)
    except ApiError as error:
        raise bad_result(request, made, error) from None
    return await _add_ephemeral(api, request, obj, old)


async def _add_ephemeral(api: Api, request: Operation, obj: Object, old: Object | None) -> Object:
    meta.match_name(obj, request.name)
    meta.match_namespace(request.row, obj, request.namespace)
    old = old if old is not None else latest_of(api.store, request)
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
    """Set spec.finalizers (PUT namespaces/NAME/finalize). A Terminating namespace without finalizers is removed."""
    obj = await run_sized(request.size, decode_object, request, body)
    meta.match_name(obj, request.name)
    finalizers = (obj.get("spec") or {}).get("finalizers") or []
    causes = await run_sized(request.size, _finalizer_causes, finalizers)
    old = latest_of(api.store, request)
    api.check_identity(request.row, obj, old)
    if causes:
        raise invalid("Namespace", request.name, causes)
    attributes = api.attributes(request, "UPDATE", obj, old, "finalize")
    await api.run_admission(attributes)
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
    """Return the whole object: the answer to a GET of `status` and of similar subresources."""
    return await api.get(request.row, request.namespace, request.name)


async def update_status(api: Api, request: Operation, obj: Any) -> Object:
    """Replace the status of an object. Raises like `Api.update`."""
    return (await api.update(request, obj, status=True))[0]


async def patch_status(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Change the status of an object. Raises like `Api.patch`."""
    return await api.patch(request, apply, status=True)


# Computed subresources


async def create_computed(api: Api, request: Operation, subresource: Subresource, obj: Any) -> Object:
    """Call the handler of a computed subresource (`serviceaccounts/token`) for a POST, and return its answer.

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
    """The verbs of one subresource. A verb that the subresource does not have raises ApiError 405.

    get: returns the subresource.
    create, update: take the object that the client sent.
    patch: takes a function that is applied to the current object.
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
    """Return the verbs of a row's subresource; None for other subresources, such as those of `connect/`."""
    found = SUBRESOURCES.get(subresource.name)
    if found is None and f"{row.group_resource}/{subresource.name}" in api.registry.virtual:

        async def create(api: Api, request: Operation, obj: Any) -> Object:
            return await create_computed(api, request, subresource, obj)

        found = SubresourceVerbs(create=create)
    return found
