"""Validation of affinity, tolerations and topology spreading (`pkg/apis/core/validation/validation.go`)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

Spec = dict[str, Any]

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_OPERATOR_ERROR = "not a valid selector operator"


def validate_tolerations(tolerations: list[Spec], at: str) -> list[Cause]:
    """Return the errors in tolerations. at: their path."""
    return [cause for index, one in enumerate(tolerations) for cause in _validate_toleration(one, f"{at}[{index}]")]


def _validate_toleration(toleration: Spec, at: str) -> list[Cause]:
    causes: list[Cause] = []
    key, operator, effect = (toleration.get(name) or "" for name in ("key", "operator", "effect"))
    value = toleration.get("value") or ""
    if key:
        causes += v.each(f"{at}.key", key, v.qualified_name(key))
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        causes.append(v.invalid(f"{at}.operator", operator, text))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        causes.append(v.invalid(f"{at}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
    # As in Kubernetes, the field of the error is `operator`, although the value is wrong.
    if operator in ("", "Equal"):
        messages = v.label_value(value)
        if messages:
            causes.append(v.invalid(f"{at}.operator", value, ";".join(messages)))
    elif operator == "Exists":
        if value:
            causes.append(v.invalid(f"{at}.operator", value, "value must be empty when `operator` is 'Exists'"))
    else:
        causes.append(v.not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in TAINT_EFFECTS:
        causes.append(v.not_supported(f"{at}.effect", effect, TAINT_EFFECTS))
    return causes


def validate_affinity(affinity: Spec, at: str, causes: list[Cause]) -> None:
    """Add the errors in an affinity to `causes`. at: its path."""
    node = affinity.get("nodeAffinity") or {}
    required = node.get(_REQUIRED)
    if required is not None:
        validate_node_selector(required, f"{at}.nodeAffinity.{_REQUIRED}", causes)
    for index, weighted in enumerate(node.get(_PREFERRED) or ()):
        here = f"{at}.nodeAffinity.{_PREFERRED}[{index}]"
        _validate_weight(weighted, here, causes)
        _validate_term(weighted.get("preference") or {}, f"{here}.preference", causes, values=False)
    for kind in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(kind) or {}
        for index, term in enumerate(found.get(_REQUIRED) or ()):
            _validate_pod_term(term, f"{at}.{kind}.{_REQUIRED}[{index}]", causes)
        for index, weighted in enumerate(found.get(_PREFERRED) or ()):
            here = f"{at}.{kind}.{_PREFERRED}[{index}]"
            _validate_weight(weighted, here, causes)
            _validate_pod_term(weighted.get("podAffinityTerm") or {}, f"{here}.podAffinityTerm", causes)


def validate_node_selector(selector: Spec, at: str, causes: list[Cause]) -> None:
    """Add the errors in a NodeSelector (`ValidateNodeSelector`) to `causes`. at: its path."""
    here = f"{at}.nodeSelectorTerms"
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        causes.append(v.required(here, "must have at least one node selector term"))
    for index, term in enumerate(terms):
        _validate_term(term, f"{here}[{index}]", causes, values=True)


def _validate_weight(weighted: Spec, at: str, causes: list[Cause]) -> None:
    weight = weighted.get("weight", 0)
    if not 0 < weight <= 100:
        causes.append(v.invalid(f"{at}.weight", weight, "must be in the range 1-100"))


def _validate_term(term: Spec, at: str, causes: list[Cause], *, values: bool) -> None:
    """Check a node selector term. values: True when its values must be valid label values."""
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        here = f"{at}.matchExpressions[{index}]"
        operator, given = expression.get("operator", ""), expression.get("values") or []
        if operator in ("In", "NotIn"):
            if not given:
                causes.append(v.required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if given:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                causes.append(v.forbidden(f"{here}.values", text))
        elif operator in ("Gt", "Lt"):
            if len(given) != 1:
                text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                causes.append(v.required(f"{here}.values", text))
        else:
            causes.append(v.invalid(f"{here}.operator", operator, _OPERATOR_ERROR))
        key = expression.get("key", "")
        causes += v.each(f"{here}.key", key, v.qualified_name(key))
        for number, value in enumerate(given if values else ()):
            causes += v.each(f"{here}.values[{number}]", value, v.label_value(value))
    for index, expression in enumerate(term.get("matchFields") or ()):
        here = f"{at}.matchFields[{index}]"
        operator, given, key = expression.get("operator", ""), expression.get("values") or [], expression.get("key", "")
        if operator not in ("In", "NotIn"):
            causes.append(v.invalid(f"{here}.operator", operator, _OPERATOR_ERROR))
        elif len(given) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            causes.append(v.required(f"{here}.values", text))
        if key != "metadata.name":
            causes.append(v.invalid(f"{here}.key", key, "not a valid field selector key"))
        else:
            for number, value in enumerate(given):
                causes += v.each(f"{here}.values[{number}]", value, v.dns1123_subdomain(value))


def _validate_pod_term(term: Spec, at: str, causes: list[Cause]) -> None:
    for key in ("labelSelector", "namespaceSelector"):
        causes += v.label_selector(term.get(key), f"{at}.{key}")
    for name in term.get("namespaces") or ():
        causes += v.each(f"{at}.namespace", name, v.dns1123_label(name))
    for kind in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = term.get(kind) or []
        if keys and term.get("labelSelector") is None:
            causes.append(v.forbidden(f"{at}.{kind}", "must not be specified when labelSelector is not set"))
            continue
        for index, key in enumerate(keys):
            causes += v.each(f"{at}.{kind}[{index}]", key, v.qualified_name(key))
    mismatched = set(term.get("mismatchLabelKeys") or ())
    for index, key in enumerate(term.get("matchLabelKeys") or ()):
        if key in mismatched:
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            causes.append(v.invalid(f"{at}.matchLabelKeys[{index}]", key, text))
    topology = term.get("topologyKey", "")
    if not topology:
        causes.append(v.required(f"{at}.topologyKey", "can not be empty"))
    causes += v.each(f"{at}.topologyKey", topology, v.qualified_name(topology))


def validate_topology_spread(constraints: list[Spec], at: str, causes: list[Cause]) -> None:
    """Add the errors in topologySpreadConstraints to `causes`. at: their path."""
    actions = ("DoNotSchedule", "ScheduleAnyway")
    # As in Kubernetes, each of several equal constraints except the last is reported as a duplicate.
    following = Counter((one.get("topologyKey"), one.get("whenUnsatisfiable")) for one in constraints)
    for index, constraint in enumerate(constraints):
        here = f"{at}[{index}]"
        skew, key, action = (constraint.get(name) for name in ("maxSkew", "topologyKey", "whenUnsatisfiable"))
        if (skew or 0) <= 0:
            causes.append(v.invalid(f"{here}.maxSkew", skew or 0, "must be greater than zero"))
        if not key:
            causes.append(v.required(f"{here}.topologyKey", "can not be empty"))
        if action not in actions:
            causes.append(v.not_supported(f"{here}.whenUnsatisfiable", action or "", actions))
        following[key, action] -= 1
        if following[key, action]:
            causes.append(v.duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        domains = constraint.get("minDomains")
        if domains is not None:
            if domains <= 0:
                causes.append(v.invalid(f"{here}.minDomains", domains, "must be greater than zero"))
            if action != "DoNotSchedule":
                text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                causes.append(v.invalid(f"{here}.minDomains", domains, text))
        for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if constraint.get(policy) is not None and constraint[policy] not in ("Honor", "Ignore"):
                causes.append(v.not_supported(f"{here}.{policy}", constraint[policy], ("Honor", "Ignore")))
        _validate_spread_keys(constraint, f"{here}.matchLabelKeys", causes)
        causes += v.label_selector(constraint.get("labelSelector"), f"{here}.labelSelector")


def _validate_spread_keys(constraint: Spec, at: str, causes: list[Cause]) -> None:
    keys, selector = constraint.get("matchLabelKeys") or [], constraint.get("labelSelector")
    if not keys:
        return
    if selector is None:
        causes.append(v.forbidden(at, "must not be specified when labelSelector is not set"))
    selected = set((selector or {}).get("matchLabels") or ())
    selected |= {one.get("key") for one in (selector or {}).get("matchExpressions") or ()}
    for index, key in enumerate(keys):
        causes += v.each(f"{at}[{index}]", key, v.qualified_name(key))
        if key in selected:
            causes.append(v.invalid(f"{at}[{index}]", key, "exists in both matchLabelKeys and labelSelector"))
