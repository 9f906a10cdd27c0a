"""The common parts of validating and mutating policies: matching, parameters, variables and bindings.

Validation and defaults are those of `pkg/apis/admissionregistration/validation/validation.go` and `v1/defaults.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.registry.strategies.matchconditions import condition_errors
from hatchway.cluster.api.registry.strategies.webhookconfigurations import rule_errors
from hatchway.errors import Cause
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler

__all__ = [
    "AdmissionBindingStrategy",
    "AdmissionPolicyStrategy",
    "binding_errors",
    "compiled_errors",
    "matching_errors",
    "policy_compiler",
    "policy_errors",
    "text_errors",
]

Json = dict[str, Any]

_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_RESERVED = frozenset(
    ("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
     "let", "loop", "package", "namespace", "return", "var", "void", "while")
)  # fmt: skip
# The maximum number of characters of all expressions of a policy together. Compiling longer expressions would take
# minutes.
_MOST_TEXT = 512 * 1024


class AdmissionPolicyStrategy(Strategy):
    """The common rules of validating and mutating policies."""

    generation = True
    # The messages of a policy may show parts of the objects that its expressions read (`admission/paramaccess.py`).
    grants_rights = True
    unconditional_update = False
    # Validation compiles the expressions of the policy.
    is_costly = True

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the defaults (`pkg/apis/admissionregistration/v1/defaults.go`)."""
        spec = obj.setdefault("spec", {})
        if spec.get("failurePolicy") is None:
            spec["failurePolicy"] = "Fail"
        if spec.get("matchConstraints") is not None:
            _default_matching(spec["matchConstraints"])

    def changed(self, obj: Object, old: Object) -> bool:
        """Return True when the spec has changed."""
        return bool(obj.get("spec") != old.get("spec"))


class AdmissionBindingStrategy(Strategy):
    """The common rules of the bindings of validating and mutating policies."""

    generation = True
    grants_rights = True
    unconditional_update = False

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the defaults of the binding's match rules."""
        spec = obj.setdefault("spec", {})
        if spec.get("matchResources") is not None:
            _default_matching(spec["matchResources"])

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


def policy_compiler(spec: Json) -> PolicyCompiler:
    """Return the compiler of a policy's expressions."""
    # Imported here, because only policies and types with rules need the code that compiles expressions.
    from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler, policy_environment

    return PolicyCompiler(policy_environment(has_params=spec.get("paramKind") is not None))


def policy_errors(spec: Json) -> Iterator[Cause]:
    """Yield the errors in failurePolicy, paramKind and matchConstraints."""
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        yield v.not_supported("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    if spec.get("paramKind") is not None:
        yield from _param_kind(spec["paramKind"], "spec.paramKind")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield v.required("spec.matchConstraints")
    else:
        yield from matching_errors(constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            yield v.required("spec.matchConstraints.resourceRules")


def text_errors(spec: Json, *texts: str | None) -> list[Cause]:
    """Return the error if the expressions of a policy together are too long.

    texts: all expressions except the expressions of match conditions and variables.
    """
    parts = [one.get("expression") for key in ("matchConditions", "variables") for one in spec.get(key) or ()]
    if sum(64 + len(one or "") for one in (*parts, *texts)) <= _MOST_TEXT:
        return []
    return [v.forbidden("spec", f"the expressions of a policy may have at most {_MOST_TEXT} characters together")]


def compiled_errors(spec: Json, compiler: PolicyCompiler) -> Iterator[Cause]:
    """Yield the errors in match conditions and variables. Adds the variables to the compiler."""
    yield from condition_errors(spec.get("matchConditions") or [], "spec.matchConditions", compiler)
    for index, one in enumerate(spec.get("variables") or ()):
        at = f"spec.variables[{index}]"
        called, text = one.get("name") or "", one.get("expression") or ""
        if not called.strip():
            yield v.required(f"{at}.name", "name is not specified")
        elif not _IDENTIFIER.fullmatch(called) or called in _RESERVED:
            yield v.invalid(f"{at}.name", called, "must be a valid CEL identifier")
        if not text.strip():
            yield v.required(f"{at}.expression", "expression is not specified")
        elif error := compiler.variable(called, text).error:
            yield v.invalid(f"{at}.expression", text, error)


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


def matching_errors(found: Json, at: str) -> Iterator[Cause]:
    """Yield the errors in `matchConstraints` or `matchResources`. at: its field."""
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


def binding_errors(spec: Json) -> Iterator[Cause]:
    """Yield the errors in the policyName and the paramRef of a binding."""
    policy = spec.get("policyName") or ""
    if not policy:
        yield v.required("spec.policyName")
    else:
        yield from v.each("spec.policyName", policy, v.dns1123_subdomain(policy))
    if spec.get("paramRef") is not None:
        yield from _param_ref(spec["paramRef"], "spec.paramRef")


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
