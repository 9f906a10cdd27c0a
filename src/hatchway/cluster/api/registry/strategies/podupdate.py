"""The fields of a pod's spec that may change (`ValidatePodUpdate` in `pkg/apis/core/validation/validation.go`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.podplacement import validate_tolerations
from hatchway.errors import Cause

Spec = dict[str, Any]

_KINDS = ("containers", "initContainers")
_MAX_INT32 = 2**31 - 1
_MUTABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)
_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"


def validate_pod_change(new: Spec, before: Spec) -> list[Cause]:
    """Return the errors in the change of a pod's spec (`ValidatePodUpdate`)."""
    causes: list[Cause] = []
    for kind in _KINDS:
        if len(new.get(kind) or ()) != len(before.get(kind) or ()):
            return [*causes, v.forbidden(f"spec.{kind}", "pod updates may not add or remove containers")]
        for index, container in enumerate(new.get(kind) or ()):
            image = container.get("image", "")
            if not image:
                causes.append(v.required(f"spec.{kind}[{index}].image"))
            elif image != image.strip():
                text = "must not have leading or trailing whitespace"
                causes.append(v.invalid(f"spec.{kind}[{index}].image", image, text))
    deadline, former = new.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    at = "spec.activeDeadlineSeconds"
    if deadline is not None:
        if not 0 <= deadline <= _MAX_INT32:
            return [*causes, v.invalid(at, deadline, f"must be between 0 and {_MAX_INT32}, inclusive")]
        if former is not None and former < deadline:
            return [*causes, v.invalid(at, deadline, "must be less than or equal to previous value")]
    elif former is not None:
        causes.append(v.invalid(at, None, "must not update from a positive integer to nil value"))
    causes += _validate_tolerations(new.get("tolerations") or [], before.get("tolerations") or [])
    causes += _validate_gates(new, before)
    munged = {**new}
    if before.get("schedulingGates"):
        causes += _validate_gated(munged, before)
    if _frozen(munged, before) != _frozen(before, before):
        causes.append(v.forbidden("spec", f"pod updates may not change fields other than {','.join(_MUTABLE)}"))
    return causes


def _validate_tolerations(new: list[Spec], before: list[Spec]) -> list[Cause]:
    def fixed(toleration: Spec) -> frozenset[tuple[str, str]]:
        return frozenset((key, value) for key, value in toleration.items() if key != "tolerationSeconds" and value)

    kept = {fixed(one) for one in new}
    if any(fixed(one) not in kept for one in before):
        text = "existing toleration can not be modified except its tolerationSeconds"
        return [v.forbidden("spec.tolerations", text)]
    return validate_tolerations(new, "spec.tolerations")


def _validate_gates(new: Spec, before: Spec) -> list[Cause]:
    former = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    return [
        v.forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name', '')}'",
        )
        for index, gate in enumerate(new.get("schedulingGates") or ())
        if gate.get("name") not in former
    ]


def _validate_gated(new: Spec, before: Spec) -> list[Cause]:
    """Check that a change of a pod with scheduling gates only reduces the nodes on which the pod may run.

    Sets the checked fields of `new` to their old values. The following comparison then ignores these fields.
    """
    causes = []
    selector, former = new.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in former.items()):
        text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        causes.append(v.invalid("spec.nodeSelector", selector, text))
    new["nodeSelector"] = former
    affinity, old = dict(new.get("affinity") or {}), before.get("affinity") or {}
    node, old_node = affinity.get("nodeAffinity"), old.get("nodeAffinity")
    if node != old_node:
        causes += _validate_terms(node or {}, old_node or {})
    affinity.pop("nodeAffinity", None)
    if old_node is not None:
        affinity["nodeAffinity"] = old_node
    new["affinity"] = affinity
    return causes


def _validate_terms(new: Spec, before: Spec) -> list[Cause]:
    at = f"spec.affinity.nodeAffinity.{_TERMS}.nodeSelectorTerms"
    former = (before.get(_TERMS) or {}).get("nodeSelectorTerms") or []
    terms = (new.get(_TERMS) or {}).get("nodeSelectorTerms") or []
    if not former:
        return []
    if len(former) != len(terms):
        return [v.invalid(at, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")]
    causes = []
    for index, (term, old) in enumerate(zip(terms, former, strict=True)):
        only_added = bool(old.get("matchExpressions") or old.get("matchFields"))
        for key in ("matchExpressions", "matchFields"):
            known = old.get(key) or []
            only_added = only_added and (term.get(key) or [])[: len(known)] == known
        if not only_added and term != old:
            causes.append(v.invalid(f"{at}[{index}]", term, "only additions are allowed (no mutations or deletions)"))
    return causes


def _frozen(spec: Spec, before: Spec) -> Spec:
    """Return a pod spec without the fields that may change."""
    free = ("activeDeadlineSeconds", "tolerations", "schedulingGates", *_KINDS)
    out = {key: value for key, value in spec.items() if key not in free and value not in (None, [], {})}
    for kind in _KINDS:
        out[kind] = [{key: value for key, value in one.items() if key != "image"} for one in spec.get(kind) or ()]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        out["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    return out
