"""The standard library of CEL: operators, conversions, texts and times (cel-go `common/stdlib/standard.go`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.equality import compare
from hatchway.cluster.api.cel.library.conversions import conversions
from hatchway.cluster.api.cel.library.declaring import declare, limit_made, no_cost, regex_cost
from hatchway.cluster.api.cel.library.regexes import expression_for
from hatchway.cluster.api.cel.library.times import time_functions
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    EvaluationError,
    UInt,
    Value,
    checked_duration,
    checked_timestamp,
    size_of,
)

__all__ = ["checked_int", "checked_uint", "standard_library"]


def checked_int(value: int) -> int:
    """Return an int. Raises EvaluationError when it does not fit 64 bits."""
    if not MIN_INT <= value <= MAX_INT:
        raise EvaluationError("integer overflow")
    return value


def checked_uint(value: int) -> UInt:
    """Return an unsigned int. Raises EvaluationError when it is negative or does not fit 64 bits."""
    if not 0 <= value <= MAX_UINT:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def _divided(first: int, second: int) -> int:
    if second == 0:
        raise EvaluationError("division by zero")
    found = abs(first) // abs(second)
    return checked_int(-found if (first < 0) != (second < 0) else found)


def _modulo(first: int, second: int) -> int:
    if second == 0:
        raise EvaluationError("modulus by zero")
    if first == MIN_INT and second == -1:
        raise EvaluationError("integer overflow")
    return int(math.copysign(1, first)) * (abs(first) % abs(second))


def _unsigned(operation: Callable[[int, int], int]) -> Callable[[int, int], UInt]:
    return lambda first, second: checked_uint(operation(int(first), int(second)))


def _double_division(first: float, second: float) -> float:
    if second == 0:
        if first == 0 or math.isnan(first):
            return math.nan
        return math.copysign(math.inf, first) * math.copysign(1, second)
    return first / second


def _joined_texts(first: Any, second: Any) -> Any:
    limit_made(len(first) + len(second))
    return first + second


def _joined_lists(state: Evaluation, first: list[Value], second: list[Value]) -> Value:
    limit_made(len(first) + len(second))
    merge = getattr(first, "merged_with", None)
    if merge is not None:
        return merge(second, state)
    # If one list is empty, the other list is returned without a copy. This is safe, because lists are never changed.
    return second if not first else first if not second else [*first, *second]


def _sum_size(args: tuple[Value, ...], result: Value) -> int:
    return -(-(size_of(args[0]) + size_of(args[1])) // 10)


def _smaller_size(args: tuple[Value, ...], result: Value) -> int:
    return -(-min(size_of(args[0]), size_of(args[1])) // 10)


def _contains_cost(args: tuple[Value, ...], result: Value) -> int:
    return -(-size_of(args[0]) // 10) * -(-size_of(args[1]) // 10)


def _part_cost(args: tuple[Value, ...], result: Value) -> int:
    return -(-size_of(args[1]) // 10)


def _match_cost(args: tuple[Value, ...], result: Value) -> int:
    return regex_cost(args[1:], result)


def matches(state: Evaluation, text: str, pattern: str) -> bool:
    """Return True when a regular expression (RE2) matches somewhere. Raises EvaluationError, CostExceeded."""
    try:
        return expression_for(state, text, pattern).matches(text)
    except ValueError as error:
        raise EvaluationError(f"error parsing regexp: {error}") from None


def _arithmetic() -> Iterator[Overload]:
    yield declare("add_int64", "_+_(int, int) int", lambda a, b: checked_int(a + b))
    yield declare("add_uint64", "_+_(uint, uint) uint", _unsigned(lambda a, b: a + b))
    yield declare("add_double", "_+_(double, double) double", lambda a, b: a + b)
    yield declare("add_string", "_+_(string, string) string", _joined_texts, _sum_size)
    yield declare("add_bytes", "_+_(bytes, bytes) bytes", _joined_texts, _sum_size)
    yield declare("add_list", "_+_(list(A), list(A)) list(A)", _joined_lists, counts_steps=True)
    yield declare("add_duration_duration", "_+_(duration, duration) duration",
                  lambda a, b: checked_duration(a.nanoseconds + b.nanoseconds))  # fmt: skip
    yield declare("add_duration_timestamp", "_+_(duration, timestamp) timestamp",
                  lambda a, b: checked_timestamp(a.nanoseconds + b.nanoseconds))  # fmt: skip
    yield declare("add_timestamp_duration", "_+_(timestamp, duration) timestamp",
                  lambda a, b: checked_timestamp(a.nanoseconds + b.nanoseconds))  # fmt: skip
    yield declare("subtract_int64", "_-_(int, int) int", lambda a, b: checked_int(a - b))
    yield declare("subtract_uint64", "_-_(uint, uint) uint", _unsigned(lambda a, b: a - b))
    yield declare("subtract_double", "_-_(double, double) double", lambda a, b: a - b)
    yield declare("subtract_duration_duration", "_-_(duration, duration) duration",
                  lambda a, b: checked_duration(a.nanoseconds - b.nanoseconds))  # fmt: skip
    yield declare("subtract_timestamp_timestamp", "_-_(timestamp, timestamp) duration",
                  lambda a, b: checked_duration(a.nanoseconds - b.nanoseconds))  # fmt: skip
    yield declare("subtract_timestamp_duration", "_-_(timestamp, duration) timestamp",
                  lambda a, b: checked_timestamp(a.nanoseconds - b.nanoseconds))  # fmt: skip
    yield declare("multiply_int64", "_*_(int, int) int", lambda a, b: checked_int(a * b))
    yield declare("multiply_uint64", "_*_(uint, uint) uint", _unsigned(lambda a, b: a * b))
    yield declare("multiply_double", "_*_(double, double) double", lambda a, b: a * b)
    yield declare("divide_int64", "_/_(int, int) int", _divided)
    yield declare("divide_uint64", "_/_(uint, uint) uint", lambda a, b: checked_uint(_divided(int(a), int(b))))
    yield declare("divide_double", "_/_(double, double) double", _double_division)
    yield declare("modulo_int64", "_%_(int, int) int", _modulo)
    yield declare("modulo_uint64", "_%_(uint, uint) uint", lambda a, b: UInt(_modulo(int(a), int(b))))
    yield declare("negate_int64", "-_(int) int", lambda a: checked_int(-a))
    yield declare("negate_double", "-_(double) double", lambda a: -a)


def _order() -> Iterator[Overload]:
    names = {"int": "int64", "uint": "uint64"}
    numbers = ("int", "uint", "double")
    for name, word, holds in (
        ("_<_", "less", lambda found: found < 0),
        ("_<=_", "less_equals", lambda found: found <= 0),
        ("_>_", "greater", lambda found: found > 0),
        ("_>=_", "greater_equals", lambda found: found >= 0),
    ):
        call = _ordered(holds)
        for kind in ("bool", *numbers, "string", "bytes", "timestamp", "duration"):
            cost = _smaller_size if kind in ("string", "bytes") else None
            yield declare(f"{word}_{names.get(kind, kind)}", f"{name}({kind}, {kind}) bool", call, cost)
        for first in numbers:
            for second in numbers:
                if first != second:
                    id = f"{word}_{names.get(first, first)}_{names.get(second, second)}"
                    yield declare(id, f"{name}({first}, {second}) bool", call)


def _ordered(holds: Callable[[int], bool]) -> Callable[[Value, Value], bool]:
    return lambda first, second: holds(compare(first, second))


def _unreached(*args: Value) -> Value:
    """Stand for an operator that `steps.py` evaluates itself. This function is never called."""
    raise AssertionError("an operator with steps of its own")


def _operators() -> Iterator[Overload]:
    yield declare("conditional", "_?_:_(bool, A, A) A", _unreached)
    yield declare("logical_and", "_&&_(bool, bool) bool", _unreached)
    yield declare("logical_or", "_||_(bool, bool) bool", _unreached)
    yield declare("logical_not", "!_(bool) bool", _negated)
    yield declare("not_strictly_false", "@not_strictly_false(bool) bool", _unreached)
    yield declare("equals", "_==_(A, A) bool", _unreached)
    yield declare("not_equals", "_!=_(A, A) bool", _unreached)
    yield declare("index_list", "_[_](list(A), int) A", _unreached)
    yield declare("index_map", "_[_](map(A, B), A) B", _unreached)
    yield declare("optional_list_index_int", "_[_](optional(list(A)), int) optional(A)", _unreached)
    yield declare("optional_map_index_value", "_[_](optional(map(A, B)), A) optional(B)", _unreached)
    yield declare("list_optindex_optional_int", "_[?_](list(A), int) optional(A)", _unreached)
    yield declare("optional_list_optindex_optional_int", "_[?_](optional(list(A)), int) optional(A)", _unreached)
    yield declare("map_optindex_optional_value", "_[?_](map(A, B), A) optional(B)", _unreached)
    yield declare("optional_map_optindex_optional_value", "_[?_](optional(map(A, B)), A) optional(B)", _unreached)
    yield declare("in_list", "@in(A, list(A)) bool", _unreached)
    yield declare("in_map", "@in(A, map(A, B)) bool", _unreached)
    yield declare("map_insert", ".cel.@mapInsert(map(A, B), A, B) map(A, B)", _unreached)
    yield declare("map_insert_map", ".cel.@mapInsert(map(A, B), map(A, B)) map(A, B)", _unreached)


def _negated(value: Value) -> bool:
    if value is not True and value is not False:
        raise EvaluationError("no such overload")
    return not value


def _texts() -> Iterator[Overload]:
    for kind, name in (("string", "string"), ("bytes", "bytes"), ("list(A)", "list"), ("map(A, B)", "map")):
        yield declare(f"size_{name}", f"size({kind}) int", len)
        yield declare(f"{name}_size", f"{kind}.size() int", len)
    yield declare("contains_string", "string.contains(string) bool", lambda a, b: b in a, _contains_cost)
    yield declare("starts_with_string", "string.startsWith(string) bool", lambda a, b: a.startswith(b), _part_cost)
    yield declare("ends_with_string", "string.endsWith(string) bool", lambda a, b: a.endswith(b), _part_cost)
    yield declare("matches", "matches(string, string) bool", matches, _match_cost, counts_steps=True)
    yield declare("matches_string", "string.matches(string) bool", matches, _match_cost, counts_steps=True)
    yield declare("to_dyn", "dyn(A) dyn", lambda value: value, no_cost)


def standard_library() -> Iterator[Overload]:
    """Yield the functions of CEL's standard library."""
    yield from _operators()
    yield from _arithmetic()
    yield from _order()
    yield from _texts()
    yield from conversions()
    yield from time_functions()
