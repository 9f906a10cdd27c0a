"""Equality and order of values (cel-go `common/types`: `Equal` and `Compare` of each type)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat

from hatchway.cluster.api.cel.mapkeys import MISSING, entries, find
from hatchway.cluster.api.cel.state import STEPS, Evaluation
from hatchway.cluster.api.cel.values import Duration, EvaluationError, Optional, Timestamp, Value

__all__ = ["compare", "contains", "equal"]

_PLAIN = frozenset((str, int, bool, float, bytes))
# Comparing this many characters or bytes takes as long as comparing two numbers.
_LONG = 256


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(first: Value, second: Value) -> tuple[Value, Value]:
    """Convert two numbers, so that Python compares them like cel-go.

    If one of them is a double, cel-go rounds the other to a double, too. Above 2**53, different numbers can then be
    equal. Python would compare their exact values.
    """
    if isinstance(first, float) or isinstance(second, float):
        return float(first), float(second)
    return first, second


def equal(first: Value, second: Value, state: Evaluation) -> bool:
    """Return True for equal values. Only numbers can be equal to values of another type.

    state: the evaluation, which counts the compared parts. Raises CostExceeded when its processor time is used up.
    """
    kind = type(first)
    if kind is type(second) and kind in _PLAIN:
        if (kind is str or kind is bytes) and len(first) > _LONG:
            state.walk(len(first) // _LONG)
        return bool(first == second)
    if _is_number(first) and _is_number(second):
        first, second = _numbers(first, second)
        return bool(first == second)
    if isinstance(first, list):
        return isinstance(second, list) and _equal_lists(first, second, state)
    if isinstance(first, dict):
        return isinstance(second, dict) and _equal_maps(first, second, state)
    if kind is not type(second):
        return False
    state.walk(1)
    if isinstance(first, Optional):
        return first.has_value is second.has_value and (not first.has_value or equal(first.value, second.value, state))
    compare_with = getattr(first, "equal_to", None)
    return bool(first == second if compare_with is None else compare_with(second, state))


def _equal_lists(first: list[Value], second: list[Value], state: Evaluation) -> bool:
    compare_with = getattr(first, "equal_to", None) or getattr(second, "equal_to", None)
    if compare_with is not None:
        return bool(compare_with(second if hasattr(first, "equal_to") else first, state))
    if len(first) != len(second):
        return False
    if len(first) <= STEPS:
        state.walk(1 + len(first))
        return all(map(equal, first, second, repeat(state)))
    for start in range(0, len(first), STEPS):
        part, other = first[start : start + STEPS], second[start : start + STEPS]
        state.walk(len(part))
        if not all(map(equal, part, other, repeat(state))):
            return False
    return True


def _equal_maps(first: Mapping[Value, Value], second: Mapping[Value, Value], state: Evaluation) -> bool:
    """Return True if both maps have as many entries, and each key of `first` finds an equal value in `second`."""
    if len(first) != len(second):
        return False
    state.walk(1)
    for key, value in entries(first):
        state.walk(1)
        other = find(second, key)
        # NaN is a key that finds no entry, not even in the same map.
        if other is MISSING or not equal(value, other, state):
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


def contains(values: Iterable[Value], wanted: Value, state: Evaluation) -> bool:
    """Return True when a value of `values` equals `wanted`. Each comparison counts for the limits of `state`."""
    for one in values:
        state.walk(1)
        if equal(one, wanted, state):
            return True
    return False
