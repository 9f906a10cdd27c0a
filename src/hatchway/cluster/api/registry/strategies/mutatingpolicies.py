"""MutatingAdmissionPolicies and their bindings (admissionregistration.k8s.io/v1).

The checks are those of `pkg/apis/admissionregistration/validation/validation.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.policyparts import (
    AdmissionBindingStrategy,
    AdmissionPolicyStrategy,
    binding_errors,
    compiled_errors,
    matching_errors,
    policy_compiler,
    policy_errors,
    text_errors,
)
from hatchway.errors import Cause
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler

__all__ = ["MutatingBindingStrategy", "MutatingPolicyStrategy"]

Json = dict[str, Any]

# DELETE is not in the list, because a DELETE request has no object that a policy could change.
_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
_REINVOCATION = ("IfNeeded", "Never")
# The field with the expression of each type of patch.
_FIELDS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


class MutatingPolicyStrategy(AdmissionPolicyStrategy):
    """The rules of MutatingAdmissionPolicies."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a policy, including errors in its expressions."""
        return list(_policy(obj.get("spec") or {}))


class MutatingBindingStrategy(AdmissionBindingStrategy):
    """The rules of MutatingAdmissionPolicyBindings."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a binding."""
        return list(_binding(obj.get("spec") or {}))


def _policy(spec: Json) -> Iterator[Cause]:
    yield from policy_errors(spec)
    yield from _operations(spec.get("matchConstraints") or {}, "spec.matchConstraints")
    mutations = spec.get("mutations") or []
    texts = ((one.get(field) or {}).get("expression") for one in mutations for field in _FIELDS.values())
    if too_long := text_errors(spec, *texts):
        yield from too_long
        return
    compiler = policy_compiler(spec)
    yield from compiled_errors(spec, compiler)
    if not mutations:
        yield v.required("spec.mutations", "mutations must contain at least one item")
    for index, one in enumerate(mutations):
        yield from _mutation(one, f"spec.mutations[{index}]", compiler)
    again = spec.get("reinvocationPolicy") or ""
    if not again:
        yield v.required("spec.reinvocationPolicy")
    elif again not in _REINVOCATION:
        yield v.not_supported("spec.reinvocationPolicy", again, _REINVOCATION)


def _operations(matching: Json, at: str) -> Iterator[Cause]:
    for rule in matching.get("resourceRules") or ():
        for one in rule.get("operations") or ():
            if one not in _OPERATIONS:
                yield v.not_supported(f"{at}.resourceRules.operations", one, _OPERATIONS)


def _mutation(mutation: Json, at: str, compiler: PolicyCompiler) -> Iterator[Cause]:
    kind = mutation.get("patchType") or ""
    if not kind:
        yield v.required(f"{at}.patchType")
        return
    if kind not in _FIELDS:
        yield v.not_supported(f"{at}.patchType", kind, tuple(_FIELDS))
        return
    for other, field in _FIELDS.items():
        found = mutation.get(field)
        if other != kind and found is not None:
            yield v.invalid(f"{at}.{field}", f"{{{field}}}", f"must not be specified when patchType is {kind}")
        if other != kind:
            continue
        if found is None:
            yield v.required(f"{at}.{field}", f"must be specified when patchType is {kind}")
        else:
            text = (found.get("expression") or "").strip()
            if not text:
                yield v.required(f"{at}.{field}.expression")
            elif error := compiler.mutation(kind, text).error:
                yield v.invalid(f"{at}.{field}.expression", text, error)


def _binding(spec: Json) -> Iterator[Cause]:
    yield from binding_errors(spec)
    if spec.get("matchResources") is not None:
        yield from matching_errors(spec["matchResources"], "spec.matchResources")
        yield from _operations(spec["matchResources"], "spec.matchResources")
