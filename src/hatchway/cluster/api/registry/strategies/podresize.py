"""Changes of the resources of a running pod (`pods/resize`).

From `podResizeStrategy` in `pkg/registry/core/pod/strategy.go` and `ValidatePodResize` in
`pkg/apis/core/validation/validation.go`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.amounts import amounts_of
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.pods import qos_class
from hatchway.cluster.api.registry.strategies.podspec import validate_spec
from hatchway.errors import Cause
from hatchway.kube.api import Object
from hatchway.kube.wellknown import MIRROR_POD

__all__ = ["resized", "validate_resize"]

Spec = dict[str, Any]

_KINDS = ("containers", "initContainers")
_CHANGED = ("resources", "resizePolicy")
_RESIZABLE = frozenset(("cpu", "memory"))
_ONLY = "only cpu and memory resources are mutable"
_LISTS = ("requests", "limits")


def resized(sent: Spec, old: Object) -> Object:
    """Return the pod `old` with the resources and resize policies of another spec, and no other changes.

    sent: the other spec. Its containers have the same names in the same order (`validate_order`).
    """
    spec = dict(old["spec"])
    for kind in _KINDS:
        if kind in spec:
            pairs = zip(sent.get(kind) or (), spec[kind], strict=True)
            spec[kind] = [_with(former, new, _CHANGED) for new, former in pairs]
    return {**old, "metadata": dict(old["metadata"]), "spec": _with(spec, sent, ("resources",))}


def _with(base: Spec, source: Spec, keys: tuple[str, ...]) -> Spec:
    out = {key: value for key, value in base.items() if key not in keys}
    return out | {key: source[key] for key in keys if source.get(key) is not None}


def validate_order(sent: Spec, old: Spec) -> list[Cause]:
    """Return the errors when containers were added, removed, renamed or reordered."""
    causes = []
    for kind in _KINDS:
        new, former = sent.get(kind) or (), old.get(kind) or ()
        if len(new) != len(former):
            causes.append(v.forbidden(f"spec.{kind}", f"{kind} may not be added or removed on resize"))
            continue
        for index, (one, before) in enumerate(zip(new, former, strict=True)):
            if one.get("name") != before.get("name"):
                at = f"spec.{kind}[{index}].name"
                causes.append(v.forbidden(at, f"{kind} may not be renamed or reordered on resize"))
    return causes


def validate_resize(new: Object, old: Object) -> list[Cause]:
    """Return the errors in the change of a pod's resources. new: the result of `resized`."""
    causes = validate_spec(new["spec"], "spec", is_pod=True)
    if MIRROR_POD in (old["metadata"].get("annotations") or {}):
        return [v.forbidden("", "static pods cannot be resized")]
    if (old["spec"].get("os") or {}).get("name") == "windows":
        return [v.forbidden("", "windows pods cannot be resized")]
    if causes:
        # Invalid amounts cannot be compared, so the following checks are skipped.
        return causes
    status = old.get("status") or {}
    former = status.get("qosClass") or qos_class(old["spec"])
    if former != qos_class(new["spec"]):
        causes.append(v.invalid("spec", former, "Pod QOS Class may not change as a result of resizing"))
    running = (one for one in status.get("containerStatuses") or () if (one.get("state") or {}).get("running"))
    if (next(running, {"resources": {}})).get("resources") is None:
        causes.append(v.forbidden("spec", "Pod running on node without support for resize"))
    causes += _pod_level(new["spec"].get("resources"), old["spec"].get("resources"))
    for kind in _KINDS:
        for index, (one, before) in enumerate(
            zip(new["spec"].get(kind) or (), old["spec"].get(kind) or (), strict=True)
        ):
            causes += _container(kind, f"spec.{kind}[{index}]", one, before)
    return causes


def _pod_level(new: Spec | None, old: Spec | None) -> list[Cause]:
    at = "spec.resources"
    if old is not None and new is None:
        return [v.forbidden(at, "pod-level resources cannot be removed")]
    causes = [
        v.forbidden(f"{at}.{what}", f"pod-level resource {what} cannot be removed")
        for what in _LISTS
        if old is not None and _removed((new or {}).get(what), old.get(what))
    ]
    if _fixed(new) != _fixed(old):
        causes.append(v.forbidden("spec", "only cpu and memory resources are mutable at pod-level"))
    return causes


def _container(kind: str, at: str, new: Spec, old: Spec) -> list[Cause]:
    resources, before = new.get("resources") or {}, old.get("resources") or {}
    causes = [
        v.forbidden(f"{at}.resources.{what}", f"resource {what} cannot be removed")
        for what in _LISTS
        if _removed(resources.get(what), before.get(what))
    ]
    if _fixed(resources) != _fixed(before) or (new.get("resizePolicy") or []) != (old.get("resizePolicy") or []):
        if kind == "containers":
            causes.append(v.forbidden("spec", _ONLY))
        else:
            causes.append(v.forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable"))
    restarts = any(one.get("restartPolicy") == "RestartContainer" for one in new.get("resizePolicy") or ())
    if kind == "initContainers" and new.get("restartPolicy") != "Always" and restarts and resources != before:
        text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
        causes.append(v.forbidden(at, text))
    return causes


def _removed(new: Spec | None, old: Spec | None) -> bool:
    return not set(old or ()) <= set(new or ())


def _fixed(resources: Spec | None) -> tuple[Any, ...]:
    """Return the resources that must not change. Amounts are numbers, so that different spellings compare equal."""
    found = resources or {}
    lists = (
        {name: one.nano for name, one in amounts_of(found.get(what)).items() if name not in _RESIZABLE}
        for what in _LISTS
    )
    return (*lists, found.get("claims") or [])
