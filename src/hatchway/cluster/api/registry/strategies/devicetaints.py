"""Taints of devices and their tolerations (`pkg/apis/resource/validation`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

__all__ = ["validate_device_taint", "validate_device_toleration"]

Json = dict[str, Any]

_EFFECTS = ("NoExecute", "NoSchedule", "None")
_OPERATORS = ("Equal", "Exists")


def validate_device_taint(taint: Json, at: str) -> list[Cause]:
    """Return the errors in the taint of a device."""
    key, value, effect = (taint.get(name) or "" for name in ("key", "value", "effect"))
    causes = v.each(f"{at}.key", key, v.qualified_name(key))
    causes += v.each(f"{at}.value", value, v.label_value(value)) if value else []
    if not effect:
        causes.append(v.required(f"{at}.effect"))
    elif effect not in _EFFECTS:
        causes.append(v.not_supported(f"{at}.effect", effect, _EFFECTS))
    return causes


def validate_device_toleration(toleration: Json, at: str) -> list[Cause]:
    """Return the errors in a toleration."""
    key, value, effect = (toleration.get(name) or "" for name in ("key", "value", "effect"))
    causes = v.each(f"{at}.key", key, v.qualified_name(key)) if key else []
    operator = toleration.get("operator") or ""
    if not operator:
        causes.append(v.required(f"{at}.operator"))
    elif operator == "Exists":
        if value:
            causes.append(v.invalid(f"{at}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        causes += v.each(f"{at}.value", value, v.label_value(value))
    else:
        causes.append(v.not_supported(f"{at}.operator", operator, _OPERATORS))
    if effect and effect not in _EFFECTS:
        causes.append(v.not_supported(f"{at}.effect", effect, _EFFECTS))
    return causes
