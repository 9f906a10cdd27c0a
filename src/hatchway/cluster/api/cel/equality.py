"""Equality and order of values (cel-go `common/types`: `Equal` and `Compare` of each type)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hatchway.cluster.api.cel.mapkeys import MISSING, entries, find
from hatchway.cluster.api.cel.values import Duration, EvaluationError, Optional, Timestamp, Value

__all__ = ["compare", "equal"]


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(first: Value, second: Value) -> tuple[Value, Value]:
    """Return two numbers as Python must compare them.

    As in cel-go, a whole number is rounded to a double before it is compared with a double: above 2**53, different
    numbers can be equal. Python compares their exact values.
    """
    if isinstance(first, float) or isinstance(second, float):
        return float(first), float(second)
    return first, second


def equal(first: Value, second: Value) -> bool:
    """Return True for equal values. Only numbers can be equal to values of another type."""
    kind = type(first)
    if kind is type(second) and kind in (str, int, bool, float, bytes):
        return bool(first == second)
    if _is_number(first) and _is_number(second):
        first, second = _numbers(first, second)
        return bool(first == second)
    if isinstance(first, list):
        return isinstance(second, list) and _equal_lists(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and _equal_maps(first, second)
    if isinstance(first, Optional) and isinstance(second, Optional):
        return first.has_value == second.has_value and (not first.has_value or equal(first.value, second.value))
    return kind is type(second) and bool(first == second)


def _equal_lists(first: Sequence[Value], second: Sequence[Value]) -> bool:
    compare_with = getattr(first, "equal_to", None) or getattr(second, "equal_to", None)
    if compare_with is not None:
        return bool(compare_with(second if hasattr(first, "equal_to") else first))
    return len(first) == len(second) and all(map(equal, first, second))


def _equal_maps(first: Mapping[Value, Value], second: Mapping[Value, Value]) -> bool:
    """Return True if the maps have the same number of entries, and each key of `first` finds an equal value."""
    if len(first) != len(second):
        return False
    for key, value in entries(first):
        other = find(second, key)
        # NaN is a key that finds no entry, not even in the same map.
        if other is MISSING or not equal(value, other):
            return False
    return True


def compare(first: Value, second: Value) -> int:
    """Return -1, 0 or 1 by the order of two values. Raises EvaluationError for values without an order."""
    if _is_number(first) and _is_number(second):
        first, second = _numbers(first, second)
        if first != first or second != second:
            raise EvaluationError("NaN values cannot be ordered")
    elif isinstance(first, Timestamp | Duration) and type(first) is type(second):
        first, second = first.nanoseconds, second.nanoseconds
    elif not (type(first) is type(second) and isinstance(first, str | bytes | bool)):
        raise EvaluationError("no such overload")
    return -1 if first < second else 1 if first > second else 0
