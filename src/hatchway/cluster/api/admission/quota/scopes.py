"""Decides which pods and claims a quota with scopes counts. Pure.

Source: `podMatchesScopeFunc` and `pvcMatchesScopeFunc` in `pkg/quota/v1/evaluator/core`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hatchway.cluster.api.registry.strategies.pods import qos_class

__all__ = ["in_scope"]

Json = dict[str, Any]


def in_scope(quota: Json, resource: str, obj: Json, known: dict[str, str] | None = None) -> bool:
    """Return True when a quota's scopes include an object. A quota without scopes includes all objects.

    resource: the object's type. Objects other than pods and claims are in no scope.
    known: a cache of computed facts about the object, for further calls with the same object; None for no cache.
    """
    known = {} if known is None else known
    spec = quota.get("spec") or {}
    scopes: list[Json] = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_matches(scope, resource, obj, known) for scope in scopes)


def _matches(scope: Json, resource: str, obj: Json, known: dict[str, str]) -> bool:
    name, spec = scope.get("scopeName"), obj.get("spec") or {}
    if resource == "persistentvolumeclaims":
        return name == "VolumeAttributesClass" and _selects(scope, _attributes_classes(obj))
    if resource != "pods":
        return False
    if name in ("Terminating", "NotTerminating"):
        deadline = spec.get("activeDeadlineSeconds")
        return bool(deadline is not None and deadline >= 0) is (name == "Terminating")
    if name in ("BestEffort", "NotBestEffort"):
        if "qos" not in known:
            known["qos"] = qos_class(spec)
        return (known["qos"] == "BestEffort") is (name == "BestEffort")
    if name == "PriorityClass":
        chosen = spec.get("priorityClassName")
        return _selects(scope, {chosen} if chosen else set())
    return name == "CrossNamespacePodAffinity" and _crosses_namespaces(spec)


def _selects(scope: Json, names: set[str]) -> bool:
    """Return True when a set of names satisfies the operator of a scope. The set may be empty."""
    operator, values = scope.get("operator"), set(scope.get("values") or ())
    if operator == "Exists":
        return bool(names)
    if operator == "DoesNotExist":
        return not names
    if operator == "In":
        return bool(names & values)
    return operator == "NotIn" and (not names or bool(names - values))


def _attributes_classes(claim: Json) -> set[str]:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    found = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return {one for one in found if one}


def _crosses_namespaces(spec: Json) -> bool:
    return any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in _terms(spec))


def _terms(spec: Json) -> Iterable[Json]:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = (spec.get("affinity") or {}).get(kind) or {}
        yield from rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield weighted.get("podAffinityTerm") or {}
