"""Evaluates one mutation of a policy, and applies its result to an object.

Source: apiserver's `pkg/admission/plugin/policy/mutating/patch/` (`smd.go`, `json_patch.go`). The functions of this
file use only their arguments, so they may run on a thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from hatchway.cluster.api.admission.policies.evaluation import (
    OUT_OF_BUDGET,
    POLICY_COST,
    CostBudget,
    LazyVariables,
    failed_expression,
)
from hatchway.cluster.api.admission.policies.patchvalues import configuration_of, operations_of
from hatchway.cluster.api.admission.webhooks.patching import decode_patched
from hatchway.cluster.api.cel.objectvalues import ObjectValue
from hatchway.cluster.api.cel.values import EvaluationError, Value
from hatchway.cluster.api.fields.atoms import Atom
from hatchway.cluster.api.fields.comparison import BadItem
from hatchway.cluster.api.fields.merging import errors_in, merge
from hatchway.cluster.api.patch.jsonpatch import PatchRejected, PatchTestFailed, apply_operations
from hatchway.cluster.api.registry.policyexpressions import CompiledPolicy, CompiledText
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema import ShapeError
from hatchway.cluster.api.work import check_object
from hatchway.errors import internal
from hatchway.kube.api import Object

__all__ = ["MutationFailed", "MutationTarget", "evaluate_mutation"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
# The maximum number of paths of atomic values in one error.
_MOST_PLACES = 20


class MutationFailed(Exception):
    """Raised when a mutation cannot be evaluated or applied. The text says why."""


@dataclass(frozen=True, slots=True)
class MutationTarget:
    """The type of the object that a mutation changes.

    row: the resource that the policy matches.
    gvk: the object's kind.
    own: True if `gvk` is the row's kind, False if it is the kind of a subresource.
    atom: the type in the form that merging needs.
    """

    row: Resource
    gvk: tuple[str, str, str]
    own: bool
    atom: Atom


def evaluate_mutation(
    text: CompiledText, policy: CompiledPolicy, variables: Mapping[str, Value], target: MutationTarget, deadline: float
) -> tuple[Object, int]:
    """Evaluate a mutation, and return the mutated object in the same version, and its bytes of JSON.

    text: the mutation.
    policy: the compiled policy, with the variables that it defines.
    variables: the values for expressions. The mutation is applied to the value of `object`.
    deadline: when evaluation stops, as processor time of this thread in seconds (`time.thread_time`).

    Raises MutationFailed; ApiError 500 when a JSON patch changes the kind of the object, 413 when the object becomes
    too large.
    """
    if text.program is None:
        raise MutationFailed(text.error)
    if time.thread_time() > deadline:
        raise MutationFailed(OUT_OF_BUDGET)
    budget = CostBudget(POLICY_COST, deadline)
    known = dict(variables)
    # Each mutation evaluates the policy's variables again, because the previous mutation has changed the object.
    known["variables"] = LazyVariables(policy.variables, budget, known)
    outcome = budget.evaluate(text, known)
    if budget.left < 0:
        raise MutationFailed(OUT_OF_BUDGET)
    if outcome.error is not None:
        raise MutationFailed(failed_expression(text, outcome))
    live: Object = variables["object"]
    try:
        if isinstance(outcome.value, ObjectValue):
            return _applied(configuration_of(outcome.value), live, target)
        return _patched(operations_of(outcome.value), live, target)
    except EvaluationError as error:
        raise MutationFailed(str(error)) from None
    except RecursionError:
        raise MutationFailed("the values are nested too deeply") from None


# Apply configurations


def _applied(configuration: Object, live: Object, target: MutationTarget) -> tuple[Object, int]:
    atom = target.atom
    configuration |= {key: live[key] for key in ("apiVersion", "kind")}
    if errors := errors_in(atom, configuration):
        shown = errors[0] if len(errors) == 1 else "errors:\n" + "\n".join(f"  {one}" for one in errors)
        raise MutationFailed(f"error applying patch: failed to convert patch object to typed object: {shown}")
    if places := list(_atomic_places(atom, configuration, "")):
        shown = ", ".join(places[:_MOST_PLACES])
        raise MutationFailed(
            f"error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {shown}"
        )
    try:
        merged = merge(atom, live, configuration)
    except BadItem as error:
        raise MutationFailed(f"error applying patch: failed to merge patch: {error}") from None
    try:
        return _decoded(merged, target, strict=False)
    except ShapeError as error:
        raise MutationFailed(f"error applying patch: failed to convert typed object to object: {error.why}") from None


def _atomic_places(atom: Atom, value: Value, at: str) -> Iterator[str]:
    """Yield the paths of atomic lists and maps, because a mutation would replace such values as wholes."""
    if isinstance(value, dict) and atom.is_map:
        if atom.atomic:
            yield at
        for name, one in value.items():
            inner = atom.fields.get(name)
            if inner is not None:
                yield from _atomic_places(inner, one, f"{at}.{name}")
    elif isinstance(value, list) and atom.is_list:
        if atom.atomic or atom.item is None:
            yield at
        for index, one in enumerate(value):
            if atom.item is not None:
                yield from _atomic_places(atom.item, one, f"{at}[{index}]")


# JSON patches


def _patched(operations: list[Object], live: Object, target: MutationTarget) -> tuple[Object, int]:
    try:
        patched = apply_operations(live, operations)
    except PatchTestFailed:
        # If a test in the patch fails, the patch changes nothing.
        patched = live
    except PatchRejected as error:
        raise MutationFailed(f"JSON Patch: {error}") from None
    if any(patched.get(key) != live[key] for key in ("apiVersion", "kind")):
        raise internal("the patch of an admission policy changes kind or apiVersion of the object")
    try:
        return _decoded(patched, target, strict=True)
    except ShapeError as error:
        raise internal(error.why) from None


def _decoded(obj: Object, target: MutationTarget, *, strict: bool) -> tuple[Object, int]:
    try:
        data = _encode(obj)
    except (ValueError, TypeError) as error:
        raise MutationFailed(f"the result is not valid JSON: {error}") from None
    check_object(data)
    return decode_patched(target.row, target.gvk, target.own, _decode(data), strict=strict), len(data)
