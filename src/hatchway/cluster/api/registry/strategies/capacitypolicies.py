"""Validates the `requestPolicy` of a device's capacity, which limits the amounts that claims may request.

From `validateRequestPolicy` in `pkg/apis/resource/validation`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.amounts import Amount
from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

__all__ = ["validate_policy"]

Json = dict[str, Any]

_MAX_VALUES = 10
_NANO = 10**9


def validate_policy(policy: Json, capacity: Amount, at: str) -> list[Cause]:
    """Return the errors in a `requestPolicy`. capacity: the value of the device's capacity. at: the policy's path."""
    values, limits, default = policy.get("validValues") or [], policy.get("validRange"), policy.get("default")
    if values and limits is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [v.forbidden(at, text)]
    key = "validValues" if values else "validRange"
    if not values and limits is None:
        return []
    if default is None:
        return [v.required(f"{at}.default", f"required when {key} is defined")]
    amount, at = Amount.parse(default), f"{at}.{key}"
    return _values(values, amount, capacity, at) if values else _range(limits or {}, amount, capacity, at)


def _values(texts: list[Any], default: Amount, capacity: Amount, at: str) -> list[Cause]:
    if len(texts) > _MAX_VALUES:
        return [v.too_many(at, len(texts), _MAX_VALUES)]
    amounts = [Amount.parse(one) for one in texts]
    causes: list[Cause] = []
    seen: set[int] = set()
    for index, one in enumerate(amounts):
        here = f"{at}[{index}]"
        if index and amounts[index - 1].nano > one.nano:
            causes.append(v.invalid(here, str(one), "values must be sorted in ascending order"))
        if one.nano > capacity.nano:
            causes.append(v.invalid(here, str(one), f"option is larger than capacity value: {capacity}"))
        if one.nano in seen:
            causes.append(v.duplicate(here, str(-(-one.nano // _NANO))))
        seen.add(one.nano)
    if default.nano not in seen:
        causes.append(v.invalid(at, str(default), "default value is not valid according to the requestPolicy"))
    return causes


def _range(limits: Json, default: Amount, capacity: Amount, at: str) -> list[Cause]:
    if limits.get("min") is None:
        return [v.required(f"{at}.min", "required when validRange is defined")]
    low, causes = Amount.parse(limits["min"]), []
    if low.nano > capacity.nano:
        causes.append(v.invalid(f"{at}.min", str(low), f"min is larger than capacity value: {capacity}"))
    if default.nano < low.nano:
        causes.append(v.invalid(f"{at}.min", str(default), f"default is less than min: {low}"))
    high = Amount.parse(limits["max"]) if limits.get("max") is not None else None
    if high is not None:
        if low.nano > high.nano:
            causes.append(v.invalid(f"{at}.max", str(low), f"min is larger than max: {high}"))
        if high.nano > capacity.nano:
            causes.append(v.invalid(f"{at}.max", str(high), f"max is larger than capacity value: {capacity}"))
        if default.nano > high.nano:
            causes.append(v.invalid(f"{at}.max", str(default), f"default is more than max: {high}"))
    if limits.get("step") is not None:
        causes += _step(Amount.parse(limits["step"]), low, [default, *([high] if high else [])], capacity, f"{at}.step")
    return causes


def _step(step: Amount, low: Amount, values: list[Amount], capacity: Amount, at: str) -> list[Cause]:
    first = low + step
    causes = []
    if first.nano > capacity.nano:
        causes.append(v.invalid(at, str(step), f"one step {first} is larger than capacity value: {capacity}"))
    # As in Kubernetes, amounts are rounded up to whole numbers before the division.
    whole = -(-step.nano // _NANO)
    if whole <= 0:
        return [*causes, v.invalid(at, str(step), "must be greater than zero")]
    for value in values:
        if (-(-value.nano // _NANO) + (-low.nano // _NANO)) % whole:
            text = f"value is not a multiple of a given step ({step}) from ({low})"
            causes.append(v.invalid(at, str(value), text))
    return causes
