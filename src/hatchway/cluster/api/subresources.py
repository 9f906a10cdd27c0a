"""Subresources that are more than a part of their object: scale, binding, eviction, finalize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchway.cluster.api import deletion, schema
from hatchway.cluster.api import metadata as meta
from hatchway.cluster.api import validation as v
from hatchway.cluster.api.options import DeleteOptions
from hatchway.cluster.api.rest import Api, Request, bad_result, clone
from hatchway.cluster.api.selectors import format_label_selector
from hatchway.errors import ApiError, bad_request, conflict, invalid, not_found
from hatchway.kube.api import Object

_SCALE = ("autoscaling", "v1", "Scale")


def _latest(api: Api, request: Request) -> Object:
    row = request.row
    found = api.store.latest(row.stored_as, request.namespace, request.name)
    if found is None:
        raise not_found(row.plural, request.name, row.group)
    return found


def _typed(gvk: tuple[str, str, str], request: Request, obj: Any) -> Object:
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


# Scale (autoscaling/v1) of Deployments and ReplicaSets


def scale_of(obj: Object) -> Object:
    """An object's Scale."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas = spec.get("replicas") or 0
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": status.get("replicas") or 0, "selector": format_label_selector(spec.get("selector"))},
    }


def get_scale(api: Api, request: Request) -> Object:
    return scale_of(api.get(request.row, request.namespace, request.name))


async def update_scale(api: Api, request: Request, obj: Any) -> Object:
    return await _rescale(api, request, lambda _: obj)


async def patch_scale(api: Api, request: Request, apply: Callable[[Object], Any]) -> Object:
    return await _rescale(api, request, apply, is_patch=True)


async def _rescale(api: Api, request: Request, make: Callable[[Object], Any], *, is_patch: bool = False) -> Object:
    row = request.row
    old = _latest(api, request)
    made = make(scale_of(old))
    try:
        scale = _typed(_SCALE, request, made)
    except ApiError as error:
        if is_patch:
            raise bad_result(request, made, error) from None
        raise
    meta.match_name(scale, request.name)
    meta.match_namespace(row, scale, request.namespace)
    api.check_identity(row, scale, old)
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    causes = v.non_negative(replicas, "spec.replicas")
    if causes:
        raise invalid("Scale", request.name, causes, "autoscaling")
    obj = clone(old)
    obj["spec"]["replicas"] = replicas
    if obj["spec"] != old["spec"]:
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return scale_of(await api.store_change(request, obj, old))


# Pods


async def bind(api: Api, request: Request, body: Any) -> Object:
    """POST pods/NAME/binding: the scheduler's decision. Raises ApiError 409 when the pod has a node or is going."""
    binding = _typed(("", "v1", "Binding"), request, body)
    if (binding["metadata"].get("name") or "") != request.name:
        raise bad_request("name in URL does not match name in Binding object")
    meta.match_namespace(request.row, binding, request.namespace)
    target = binding.get("target") or {}
    causes = []
    if target.get("kind") not in ("", "Node", None):
        causes.append(v.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        causes.append(v.required("target.name"))
    if causes:
        raise invalid("Binding", binding["metadata"].get("name") or "", causes)
    pod = _latest(api, request)
    api.admit(request, "CREATE", binding, pod, "binding")
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


async def evict(api: Api, request: Request, body: Any) -> Object:
    """POST pods/NAME/eviction: a deletion that would ask disruption budgets, of which there are none here."""
    eviction = _typed(("policy", "v1", "Eviction"), request, body)
    named = eviction["metadata"].get("name")
    if named and named != request.name:
        raise bad_request("name in URL does not match name in Eviction object")
    api.admit(request, "CREATE", eviction, None, "eviction")
    wanted = eviction.get("deleteOptions") or {}
    preconditions = wanted.get("preconditions") or {}
    options = DeleteOptions(
        wanted.get("gracePeriodSeconds"),
        wanted.get("propagationPolicy") or "",
        None,
        preconditions.get("uid") or "",
        preconditions.get("resourceVersion") or "",
        request.dry_run or bool(wanted.get("dryRun")),
    )
    await deletion.delete(api, request, options)
    return _success(201)


def _success(code: int) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}


# Namespaces


async def finalize(api: Api, request: Request, body: Any) -> Object:
    """PUT namespaces/NAME/finalize: set spec.finalizers; a Terminating namespace without any is gone."""
    obj = api.decode(request, body)
    meta.match_name(obj, request.name)
    old = _latest(api, request)
    api.check_identity(request.row, obj, old)
    finalizers = (obj.get("spec") or {}).get("finalizers") or []
    causes = [
        cause
        for index, one in enumerate(finalizers)
        for cause in (
            *v.each(f"spec.finalizers[{index}]", one, v.qualified_name(one)),
            *v.standard_finalizer(one, f"spec.finalizers[{index}]"),
        )
    ]
    if causes:
        raise invalid("Namespace", request.name, causes)
    new = {**old, "metadata": dict(old["metadata"]), "spec": {"finalizers": finalizers} if finalizers else {}}
    return await api.store_change(request, new, old)


__all__ = ["bind", "evict", "finalize", "get_scale", "patch_scale", "scale_of", "update_scale"]
