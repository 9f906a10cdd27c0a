"""ValidatingAdmissionPolicies and their bindings (admissionregistration.k8s.io/v1).

The checks are those of `pkg/apis/admissionregistration/validation/validation.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.registry.strategies.matchconditions import condition_errors
from hatchway.cluster.api.registry.strategies.webhookconfigurations import rule_errors
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["PolicyBindingStrategy", "PolicyStrategy"]

Json = dict[str, Any]

_ACTIONS = ("Audit", "Deny", "Warn")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_RESERVED = frozenset(
    ("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
     "let", "loop", "package", "namespace", "return", "var", "void", "while")
)  # fmt: skip
_MOST_ANNOTATIONS, _LONGEST_VALUE = 20, 5 * 1024
# Characters of all expressions of a policy. Compiling more would take minutes.
_MOST_TEXT = 512 * 1024
_NEITHER = "validations or auditAnnotations must contain at least one item"
_BOTH = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and "
    "headers serves no purpose)"
)


class PolicyStrategy(Strategy):
    """The rules of ValidatingAdmissionPolicies."""

    generation = True
    # Messages of its expressions show what they read (`admission/paramaccess.py`).
    gives_rights = True
    unconditional_update = False
    # Its expressions are compiled.
    is_costly = True

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the defaults (`pkg/apis/admissionregistration/v1/defaults.go`)."""
        spec = obj.setdefault("spec", {})
        if spec.get("failurePolicy") is None:
            spec["failurePolicy"] = "Fail"
        if spec.get("matchConstraints") is not None:
            _default_matching(spec["matchConstraints"])

    def prepare_create(self, ctx: Any, obj: Object) -> None:
        """Drop the status, which only its subresource sets."""
        obj["status"] = {}

    def validate(self, obj: Object) -> list[Cause]:
        """Return what is wrong with a policy, its expressions included."""
        return list(_policy(obj["metadata"].get("name") or "", obj.get("spec") or {}))

    def changed(self, obj: Object, old: Object) -> bool:
        """Return True when the spec has changed."""
        return bool(obj.get("spec") != old.get("spec"))


class PolicyBindingStrategy(Strategy):
    """The rules of ValidatingAdmissionPolicyBindings."""

    generation = True
    gives_rights = True
    unconditional_update = False

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the defaults of what the binding matches."""
        spec = obj.setdefault("spec", {})
        if spec.get("matchResources") is not None:
            _default_matching(spec["matchResources"])

    def validate(self, obj: Object) -> list[Cause]:
        """Return what is wrong with a binding."""
        return list(_binding(obj.get("spec") or {}))

    def changed(self, obj: Object, old: Object) -> bool:
        """Return True when the spec has changed."""
        return bool(obj.get("spec") != old.get("spec"))


def _default_matching(found: Json) -> None:
    if found.get("matchPolicy") is None:
        found["matchPolicy"] = "Equivalent"
    for key in ("namespaceSelector", "objectSelector"):
        if found.get(key) is None:
            found[key] = {}
    for key in ("resourceRules", "excludeResourceRules"):
        for rule in found.get(key) or ():
            if rule.get("scope") is None:
                rule["scope"] = "*"


def _policy(name: str, spec: Json) -> Iterator[Cause]:
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        yield v.not_supported("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    if spec.get("paramKind") is not None:
        yield from _param_kind(spec["paramKind"], "spec.paramKind")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield v.required("spec.matchConstraints")
    else:
        yield from _matching(constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            yield v.required("spec.matchConstraints.resourceRules")
    if _text_size(spec) > _MOST_TEXT:
        yield v.forbidden("spec", f"the expressions of a policy may have at most {_MOST_TEXT} characters together")
        return
    yield from _expressions(name, spec)


def _text_size(spec: Json) -> int:
    fields = ("expression", "messageExpression", "valueExpression")
    parts = (
        one
        for key in ("matchConditions", "variables", "validations", "auditAnnotations")
        for one in spec.get(key) or ()
    )
    return sum(64 + sum(len(one.get(field) or "") for field in fields) for one in parts)


def _expressions(name: str, spec: Json) -> Iterator[Cause]:
    # Imported here: only policies and types with rules need the code that compiles expressions.
    from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler

    compiler = PolicyCompiler(has_params=spec.get("paramKind") is not None)
    yield from condition_errors(spec.get("matchConditions") or [], "spec.matchConditions", compiler)
    for index, one in enumerate(spec.get("variables") or ()):
        at = f"spec.variables[{index}]"
        called, text = one.get("name") or "", one.get("expression") or ""
        if not called.strip():
            yield v.required(f"{at}.name", "name is not specified")
        elif not _IDENTIFIER.fullmatch(called) or called in _RESERVED:
            yield v.invalid(f"{at}.name", called, "name is not a valid CEL identifier")
        if not text.strip():
            yield v.required(f"{at}.expression", "expression is not specified")
        elif error := compiler.variable(called, text).error:
            yield v.invalid(f"{at}.expression", text, error)
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


def _param_kind(kind: Json, at: str) -> Iterator[Cause]:
    version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    group, slash, bare = version.rpartition("/")
    if not version:
        yield v.required(f"{at}.apiVersion")
    elif "/" in group:
        yield v.invalid(f"{at}.apiVersion", version, f"unexpected GroupVersion string: {version}")
    else:
        if group and (errors := v.dns1123_subdomain(group)):
            yield v.invalid(f"{at}.apiVersion", group, ",".join(errors))
        if slash and not bare:
            yield v.invalid(f"{at}.apiVersion", version, "version must be specified")
        elif errors := v.dns1035_label(bare):
            yield v.invalid(f"{at}.apiVersion", bare, ",".join(errors))
    if not name:
        yield v.required(f"{at}.kind")
    elif errors := v.dns1035_label(name.lower()):
        why = "may have mixed case, but should otherwise match: "
        yield v.invalid(f"{at}.kind", name, why + ",".join(errors))


def _matching(found: Json, at: str) -> Iterator[Cause]:
    if found.get("matchPolicy") not in ("Equivalent", "Exact"):
        yield v.not_supported(f"{at}.matchPolicy", found.get("matchPolicy"), ("Equivalent", "Exact"))
    for key in ("namespaceSelector", "objectSelector"):
        yield from v.label_selector(found.get(key), f"{at}.{key}")
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(found.get(key) or ()):
            yield from _named_rule(rule, f"{at}.{key}[{index}]")


def _named_rule(rule: Json, at: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, name in enumerate(rule.get("resourceNames") or ()):
        yield from v.each(f"{at}.resourceNames[{index}]", name, v.path_segment(name))
        if name in seen:
            yield v.duplicate(f"{at}.resourceNames[{index}]", name)
        seen.add(name)
    yield from rule_errors(rule, at)


def _binding(spec: Json) -> Iterator[Cause]:
    policy = spec.get("policyName") or ""
    if not policy:
        yield v.required("spec.policyName")
    else:
        yield from v.each("spec.policyName", policy, v.dns1123_subdomain(policy))
    if spec.get("paramRef") is not None:
        yield from _param_ref(spec["paramRef"], "spec.paramRef")
    if spec.get("matchResources") is not None:
        # Kubernetes' errors spell the field so.
        yield from _matching(spec["matchResources"], "spec.matchResouces")
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


def _param_ref(found: Json, at: str) -> Iterator[Cause]:
    name, selector, action = found.get("name") or "", found.get("selector"), found.get("parameterNotFoundAction") or ""
    if name:
        yield from v.each(f"{at}.name", name, v.path_segment(name))
        if selector is not None:
            yield v.forbidden(f"{at}.name", "name and selector are mutually exclusive")
    if selector is not None:
        yield from v.label_selector(selector, f"{at}.selector")
        if name:
            yield v.forbidden(f"{at}.selector", "name and selector are mutually exclusive")
    if not name and selector is None:
        yield v.required(at, "one of name or selector must be specified")
    if not action:
        yield v.required(f"{at}.parameterNotFoundAction")
    elif action not in ("Allow", "Deny"):
        yield v.not_supported(f"{at}.parameterNotFoundAction", action, ("Deny", "Allow"))
