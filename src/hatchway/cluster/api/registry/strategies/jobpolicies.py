"""Validates the policies of Jobs for failed, replaced and succeeded pods (`pkg/apis/batch/validation`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.jobindexes import indexes_fault
from hatchway.errors import Cause

Json = dict[str, Any]

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")
_MAX_RULES = _MAX_PATTERNS = 20
_MAX_CODES = 255
_MAX_INDEXES_TEXT = 64 * 1024


def _choice(value: str | None, values: tuple[str, ...], at: str) -> list[Cause]:
    if not value:
        known = " ".join(map(v.quote, values))
        return [v.required(at, f"valid values: [{known}]")]
    return [] if value in values else [v.not_supported(at, value, values)]


def validate_failure_policy(spec: Json, at: str) -> list[Cause]:
    """Return the errors in spec.podFailurePolicy. at: its path."""
    rules, causes = spec["podFailurePolicy"].get("rules") or [], []
    if len(rules) > _MAX_RULES:
        causes.append(v.too_many(f"{at}.rules", len(rules), _MAX_RULES))
    pod = (spec.get("template") or {}).get("spec") or {}
    names = {one.get("name") for kind in ("containers", "initContainers") for one in pod.get(kind) or ()}
    for index, rule in enumerate(rules[:_MAX_RULES]):
        causes += _failure_rule(spec, rule, f"{at}.rules[{index}]", names)
    return causes


def _failure_rule(spec: Json, rule: Json, at: str, names: set[Any]) -> list[Cause]:
    action = rule.get("action")
    if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        causes = [v.invalid(f"{at}.action", action, "requires the backoffLimitPerIndex to be set")]
    else:
        causes = _choice(action, _ACTIONS, f"{at}.action")
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
    if codes is not None:
        causes += _exit_codes(codes, f"{at}.onExitCodes", names)
    where = f"{at}.onPodConditions"
    if len(conditions) > _MAX_PATTERNS:
        causes.append(v.too_many(where, len(conditions), _MAX_PATTERNS))
    for index, pattern in enumerate(conditions[:_MAX_PATTERNS]):
        kind = pattern.get("type") or ""
        causes += v.each(f"{where}[{index}].type", kind, v.qualified_name(kind))
        causes += _choice(pattern.get("status"), _STATUSES, f"{where}[{index}].status")
    if codes is not None and conditions:
        causes.append(_invalid(at, "specifying both OnExitCodes and OnPodConditions is not supported"))
    if codes is None and not conditions:
        causes.append(_invalid(at, "specifying one of OnExitCodes and OnPodConditions is required"))
    return causes


def _invalid(at: str, text: str) -> Cause:
    """Return the cause for an invalid value, without the value in the message (`field.OmitValueType`)."""
    return Cause("FieldValueInvalid", f"Invalid value: {text}", at)


def _exit_codes(codes: Json, at: str, names: set[Any]) -> list[Cause]:
    operator, values = codes.get("operator"), codes.get("values") or []
    causes = _choice(operator, _OPERATORS, f"{at}.operator")
    name = codes.get("containerName")
    if name is not None and name not in names:
        text = "must be one of the container or initContainer names in the pod template"
        causes.append(v.invalid(f"{at}.containerName", name, text))
    if not values:
        causes.append(v.invalid(f"{at}.values", values, "at least one value is required"))
    elif len(values) > _MAX_CODES:
        return [*causes, v.too_many(f"{at}.values", len(values), _MAX_CODES)]
    seen: set[int] = set()
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            causes.append(v.invalid(f"{at}.values[{index}]", value, "must not be 0 for the In operator"))
        if value in seen:
            causes.append(v.duplicate(f"{at}.values[{index}]", value))
        seen.add(value)
    if values != sorted(values):
        causes.append(v.invalid(f"{at}.values", values, "must be ordered"))
    return causes


def validate_success_policy(spec: Json, at: str) -> list[Cause]:
    """Return the errors in spec.successPolicy of an indexed Job. at: its path."""
    rules, causes = spec["successPolicy"].get("rules") or [], []
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        causes.append(v.required(f"{at}.rules", text))
    if len(rules) > _MAX_RULES:
        causes.append(v.too_many(f"{at}.rules", len(rules), _MAX_RULES))
    for index, rule in enumerate(rules[:_MAX_RULES]):
        causes += _success_rule(rule, spec.get("completions") or 0, f"{at}.rules[{index}]")
    return causes


def _success_rule(rule: Json, completions: int, at: str) -> list[Cause]:
    indexes, wanted, causes, total = rule.get("succeededIndexes"), rule.get("succeededCount"), [], 0
    if indexes is None and wanted is None:
        causes.append(v.required(at, "at least one of succeededCount or succeededIndexes must be specified"))
    if indexes is not None:
        where = f"{at}.succeededIndexes"
        if len(indexes) > _MAX_INDEXES_TEXT:
            return [*causes, v.too_long(where, _MAX_INDEXES_TEXT)]
        total, fault = indexes_fault(indexes, completions)
        if fault:
            causes.append(v.invalid(where, indexes, f"error parsing succeededIndexes: {fault}"))
    if wanted is not None:
        where = f"{at}.succeededCount"
        causes += v.non_negative(wanted, where)
        most = "must be less than or equal to"
        if wanted > completions:
            text = f"{most} {completions} (the number of specified completions)"
            causes.append(v.invalid(where, wanted, text))
        if indexes is not None and wanted > total:
            text = f"{most} {total} (the number of indexes in the specified succeededIndexes field)"
            causes.append(v.invalid(where, wanted, text))
    return causes


def validate_replacement_policy(spec: Json, at: str) -> list[Cause]:
    """Return the errors in spec.podReplacementPolicy. at: its path."""
    policy = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    return [] if policy is None or policy in allowed else [v.not_supported(at, policy, allowed)]
