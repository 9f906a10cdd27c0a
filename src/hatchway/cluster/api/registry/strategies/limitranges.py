"""LimitRanges: limits and defaults for the containers, pods and claims of a namespace (`pkg/registry/core/limitrange`).

The rules are those of `ValidateLimitRange` in `pkg/apis/core/validation/validation.go`. `admission/limits.py`
applies LimitRanges to pods and claims.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.amounts import ONE, Amount, Amounts, amounts_of
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.resourcenames import (
    is_overcommit_allowed,
    validate_container_resource,
    validate_resource,
)
from hatchway.errors import Cause
from hatchway.kube.api import Object

Json = dict[str, Any]

_NOT_FOR_PODS = "may not be specified when `type` is 'Pod'"
_NO_STORAGE = "either minimum or maximum storage value is required, but neither was provided"


class LimitRangeStrategy(Strategy):
    """LimitRanges. They have no status."""

    requires_spec = True

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Do nothing: all fields may change."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the limits: unknown resources, duplicate types, amounts that contradict each other."""
        causes: list[Cause] = []
        seen: set[str] = set()
        for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
            at, kind = f"spec.limits[{index}]", item.get("type", "")
            causes += _validate_type(kind, f"{at}.type")
            if kind in seen:
                causes.append(v.duplicate(f"{at}.type", kind))
            seen.add(kind)
            causes += _validate_item(item, kind, at)
        return causes


def _validate_type(kind: str, at: str) -> list[Cause]:
    causes = v.each(at, kind, v.qualified_name(kind))
    if not causes and "/" not in kind and kind not in ("Pod", "Container", "PersistentVolumeClaim"):
        causes.append(v.invalid(at, kind, "must be a standard limit type or fully qualified"))
    return causes


def _validate_item(item: Json, kind: str, at: str) -> list[Cause]:
    causes: list[Cause] = []
    lists: dict[str, Amounts] = {}
    for key in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        if kind == "Pod" and key.startswith("default"):
            if item.get(key):
                causes.append(v.forbidden(f"{at}.{key}", _NOT_FOR_PODS))
            continue
        lists[key] = amounts_of(item.get(key))
        check = validate_resource if kind == "PersistentVolumeClaim" else validate_container_resource
        for name in lists[key]:
            if kind in ("Pod", "Container", "PersistentVolumeClaim"):
                causes += check(name, f"{at}.{key}[{name}]")
            else:
                causes += validate_resource(name, f"{at}.{key}[{name}]")
    if kind == "PersistentVolumeClaim" and "storage" not in lists["min"] and "storage" not in lists["max"]:
        causes.append(v.required(f"{at}.limits", _NO_STORAGE))
    for name in sorted({name for found in lists.values() for name in found}):
        causes += _validate_amounts(name, {key: found[name] for key, found in lists.items() if name in found}, at)
    return causes


def _validate_amounts(name: str, given: Amounts, at: str) -> list[Cause]:
    """Return the errors in the amounts of one resource. given: the amounts that are set, by field name."""
    causes: list[Cause] = []
    # Each row: the lower field, the upper field, the field of the error, and the names of both fields in the message.
    for low, high, field, lower, upper in (
        ("min", "max", "min", "min", "max"),
        ("min", "defaultRequest", "defaultRequest", "min", "default request"),
        ("defaultRequest", "max", "defaultRequest", "default request", "max"),
        ("defaultRequest", "default", "defaultRequest", "default request", "default limit"),
        ("min", "default", "default", "min", "default"),
        ("default", "max", "default", "default", "max"),
    ):
        if low in given and high in given and given[low].nano > given[high].nano:
            # Kubernetes' message shows the value of the field. For the field `default`, it shows the bound instead.
            value = given[{"default": high if low == "default" else low}.get(field, field)]
            why = f"{lower} value {given[low]} is greater than {upper} value {given[high]}"
            causes.append(v.invalid(f"{at}.{field}[{name}]", str(value), why))
    ratio = given.get("maxLimitRequestRatio")
    if ratio is not None:
        causes += _validate_ratio(ratio, given, f"{at}.maxLimitRequestRatio[{name}]")
    default, request = given.get("default"), given.get("defaultRequest")
    if not is_overcommit_allowed(name) and default and request and default.nano != request.nano:
        why = f"default value {default} must equal to defaultRequest value {request} in {name}"
        causes.append(v.invalid(f"{at}.defaultRequest[{name}]", str(request), why))
    return causes


def _validate_ratio(ratio: Amount, given: Amounts, at: str) -> list[Cause]:
    causes = []
    if ratio.nano < ONE.nano:
        causes.append(v.invalid(at, str(ratio), f"ratio {ratio} is less than 1"))
    low, high = given.get("min"), given.get("max")
    # With a minimum of zero, every ratio is possible.
    if low is not None and high is not None and low.nano and ratio.nano * low.nano > high.nano * ONE.nano:
        why = f"ratio {ratio} is greater than max/min = {high.nano / low.nano:f}"
        causes.append(v.invalid(at, str(ratio), why))
    return causes
