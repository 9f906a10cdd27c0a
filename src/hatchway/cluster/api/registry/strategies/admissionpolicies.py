"""ValidatingAdmissionPolicies and their bindings (admissionregistration.k8s.io/v1).

The checks are those of `pkg/apis/admissionregistration/validation/validation.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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

__all__ = ["PolicyBindingStrategy", "PolicyStrategy"]

Json = dict[str, Any]

_ACTIONS = ("Audit", "Deny", "Warn")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_MOST_ANNOTATIONS, _LONGEST_VALUE = 20, 5 * 1024
_NEITHER = "validations or auditAnnotations must contain at least one item"
_BOTH = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and "
    "headers serves no purpose)"
)


class PolicyStrategy(AdmissionPolicyStrategy):
    """The rules of ValidatingAdmissionPolicies."""

    def prepare_create(self, ctx: Any, obj: Object) -> None:
        """Drop the status, because only the subresource `status` may set it."""
        obj["status"] = {}

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a policy, including errors in its expressions."""
        return list(_policy(obj["metadata"].get("name") or "", obj.get("spec") or {}))


class PolicyBindingStrategy(AdmissionBindingStrategy):
    """The rules of ValidatingAdmissionPolicyBindings."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a binding."""
        return list(_binding(obj.get("spec") or {}))


def _policy(name: str, spec: Json) -> Iterator[Cause]:
    yield from policy_errors(spec)
    if too_long := text_errors(spec, *_texts(spec)):
        yield from too_long
        return
    yield from _expressions(name, spec)


def _texts(spec: Json) -> Iterator[str | None]:
    for one in spec.get("validations") or ():
        yield one.get("expression")
        yield one.get("messageExpression")
    for one in spec.get("auditAnnotations") or ():
        yield one.get("valueExpression")


def _expressions(name: str, spec: Json) -> Iterator[Cause]:
    compiler = policy_compiler(spec)
    yield from compiled_errors(spec, compiler)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        yield v.required("spec.validations", _NEITHER)
        yield v.required("spec.auditAnnotations", _NEITHER)
    for index, one in enumerate(validations):
        yield from _validation(one, f"spec.validations[{index}]", compiler)
    if len(annotations) > _MOST_ANNOTATIONS:
        text = f"must not have more than {_MOST_ANNOTATIONS} auditAnnotations"
        yield v.invalid("spec.auditAnnotations", annotations, text)
    keys: set[str] = set()
    for index, one in enumerate(annotations):
        at, key = f"spec.auditAnnotations[{index}]", one.get("key") or ""
        yield from v.each(f"{at}.key", f"{name}/{key}", v.qualified_name(f"{name}/{key}"))
        text = (one.get("valueExpression") or "").strip()
        if not text:
            yield v.required(f"{at}.valueExpression", "valueExpression is not specified")
        elif len(text) > _LONGEST_VALUE:
            yield v.required(f"{at}.valueExpression", f"must not exceed {_LONGEST_VALUE} bytes in length")
        elif error := compiler.annotation(text).error:
            yield v.invalid(f"{at}.valueExpression", one["valueExpression"], error)
        if key in keys:
            yield v.duplicate(f"{at}.key", key)
        keys.add(key)


def _validation(one: Json, at: str, compiler: Any) -> Iterator[Cause]:
    text, expression, message = (one.get(key) or "" for key in ("expression", "messageExpression", "message"))
    if not text.strip():
        yield v.required(f"{at}.expression", "expression is not specified")
    elif error := compiler.validation(text).error:
        yield v.invalid(f"{at}.expression", text, error)
    if expression and not expression.strip():
        yield v.invalid(f"{at}.messageExpression", expression, "must be non-empty if specified")
    elif expression and (error := compiler.message(expression).error):
        yield v.invalid(f"{at}.messageExpression", expression, error)
    if message and not message.strip():
        yield v.invalid(f"{at}.message", message, "message must be non-empty if specified")
    elif "\n" in message.strip() or "\r" in message.strip():
        yield v.invalid(f"{at}.message", message, "message must not contain line breaks")
    if one.get("reason") is not None and one["reason"] not in _REASONS:
        yield v.not_supported(f"{at}.reason", one["reason"], _REASONS)


def _binding(spec: Json) -> Iterator[Cause]:
    yield from binding_errors(spec)
    if spec.get("matchResources") is not None:
        # Kubernetes' errors contain this misspelling.
        yield from matching_errors(spec["matchResources"], "spec.matchResouces")
    actions, at = spec.get("validationActions") or [], "spec.validationActions"
    for index, one in enumerate(actions):
        if one not in _ACTIONS:
            yield v.not_supported(f"{at}[{index}]", one, _ACTIONS)
        if one in actions[:index]:
            yield v.duplicate(f"{at}[{index}]", one)
    if "Deny" in actions and "Warn" in actions:
        yield v.invalid(at, actions, _BOTH)
    if not actions:
        yield v.required(at, "at least one validation action is required")
