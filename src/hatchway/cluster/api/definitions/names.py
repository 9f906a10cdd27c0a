"""Decides which names of a CustomResourceDefinition are accepted (`pkg/controller/status/naming_controller.go`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.types import ROWS
from hatchway.kube.api import Object

__all__ = ["AcceptedNames", "accept_names", "approval_condition"]

Json = Any
Names = Mapping[str, Json]

_APPROVAL = "api-approved.kubernetes.io"


@dataclass(frozen=True, slots=True)
class AcceptedNames:
    """The accepted names, and the condition NamesAccepted as (status, reason, message)."""

    names: dict[str, Json]
    status: str
    reason: str
    message: str


def accept_names(definition: Object, others: Iterable[Object]) -> AcceptedNames:
    """Return the names of a definition that no other definition of its group has.

    The names of the group's built-in types are not accepted. (Kubernetes accepts them, but does not serve the type.)

    others: all definitions, including the definition itself.
    """
    resources: set[str] = set()
    kinds: set[str] = set()
    for row in ROWS:
        if row.group == definition["spec"]["group"]:
            resources.update((row.plural, row.singular, *row.short_names))
            kinds.update((row.kind, row.listed_as))
    for other in others:
        if other["metadata"]["name"] == definition["metadata"]["name"]:
            continue
        if other["spec"]["group"] == definition["spec"]["group"]:
            taken: Names = (other.get("status") or {}).get("acceptedNames") or {}
            for key in ("plural", "singular", "shortNames"):
                resources.update(_listed(taken.get(key)))
            for key in ("kind", "listKind"):
                kinds.update(_listed(taken.get(key)))
    wanted: Names = definition["spec"]["names"]
    before: Names = (definition.get("status") or {}).get("acceptedNames") or {}
    names = dict(before)
    reason = message = ""
    for key, used in (("plural", resources), ("singular", resources), ("shortNames", resources), ("kind", kinds),
                      ("listKind", kinds)):  # fmt: skip
        new = wanted.get(key)
        mine = set(_listed(before.get(key)))
        conflicts = [one for one in _listed(new) if one in used and one not in mine]
        if conflicts:
            reason = f"{key[0].upper()}{key[1:]}Conflict"
            texts = [f"{v.quote(one)} is already in use" for one in conflicts]
            message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        elif new:
            names[key] = new
        else:
            names.pop(key, None)
    names.pop("categories", None)
    if wanted.get("categories"):
        names["categories"] = wanted["categories"]
    if reason:
        return AcceptedNames(names, "False", reason, message)
    return AcceptedNames(names, "True", "NoConflicts", "no conflicts found")


def _listed(value: Json) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []


def approval_condition(definition: Object) -> tuple[str, str, str] | None:
    """Return the condition KubernetesAPIApprovalPolicyConformant; None outside of Kubernetes' own groups."""
    group = definition["spec"]["group"]
    if group not in ("k8s.io", "kubernetes.io") and not group.endswith((".k8s.io", ".kubernetes.io")):
        return None
    value = (definition["metadata"].get("annotations") or {}).get(_APPROVAL) or ""
    if value.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f"not approved: {v.quote(value)}"
    if value.startswith(("https://", "http://")):
        return "True", "ApprovedAnnotation", f"approved in {value}"
    text = f'protected groups must have approval annotation "{_APPROVAL}", see '
    return "False", "MissingAnnotation", f"{text}https://github.com/kubernetes/enhancements/pull/1111"
