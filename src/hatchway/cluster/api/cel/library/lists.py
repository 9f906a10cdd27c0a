"""Functions of lists and sets, and optional values.

Source: cel-go's `ext/lists.go`, `ext/sets.go`, `cel/library.go` and Kubernetes' `library/lists.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cmp_to_key, partial

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.equality import compare, contains, equal
from hatchway.cluster.api.cel.library.declaring import declare, limit_made
from hatchway.cluster.api.cel.library.standard import checked_int, checked_uint
from hatchway.cluster.api.cel.mapkeys import entries
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.values import (
    Duration,
    EvaluationError,
    Optional,
    Timestamp,
    UInt,
    Value,
    checked_duration,
)

__all__ = ["list_library"]

# The zero value of Go's times: the beginning of the year 1.
_ZERO_TIME = Timestamp(-62135596800 * 1_000_000_000)
# The maximum number of comparisons of elements that one call of a function may make.
_MOST_COMPARED = 1_000_000
_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_SUMS: dict[str, tuple[Value, Callable[[Value, Value], Value]]] = {
    "int": (0, lambda a, b: checked_int(a + b)),
    "uint": (UInt(0), lambda a, b: checked_uint(int(a) + int(b))),
    "double": (0.0, lambda a, b: a + b),
    "duration": (Duration(0), lambda a, b: checked_duration(a.nanoseconds + b.nanoseconds)),
}


def _traversed(state: Evaluation, value: Value) -> int:
    state.walk(1)
    if isinstance(value, str | bytes):
        return len(value) // 10
    if isinstance(value, list):
        return sum(_traversed(state, one) for one in value)
    if isinstance(value, dict):
        return sum(_traversed(state, key) + _traversed(state, one) for key, one in entries(value))
    return 1


def _tree_cost(args: tuple[Value, ...], result: Value) -> int:
    """Return the cost of reading a list and all its elements, including nested elements."""
    return _traversed(args[0], args[1])


def _made_cost(args: tuple[Value, ...], result: Value) -> int:
    """Return the cost of creating a list: the costs of the call, of a new list, and of its elements."""
    return 11 + len(result)


def _flatten_cost(args: tuple[Value, ...], result: Value) -> int:
    _, values, *depth = args
    return 11 + len(values) * (depth[0] if depth else 1)


def _compared_cost(values: list[Value]) -> int:
    """Return the cost of comparing all elements of a list with each other."""
    factor = 2.1 if values and isinstance(values[0], str | bytes) else 2.0
    return 11 + int(len(values) ** 2 * factor)


def _order(first: Value, second: Value, state: Evaluation) -> int:
    state.walk(1 + len(first) // 256 if isinstance(first, str | bytes) else 1)
    # In cel-go and Kubernetes' library, NaN is an error for `<`, but not for the functions of lists.
    return 0 if first != first or second != second else compare(first, second)


def _is_sorted(state: Evaluation, values: list[Value]) -> bool:
    return all(_order(values[at], values[at + 1], state) <= 0 for at in range(len(values) - 1))


def _sum(kind: str) -> Callable[[Evaluation, list[Value]], Value]:
    start, add = _SUMS[kind]

    def total(state: Evaluation, values: list[Value]) -> Value:
        found = start
        for one in values:
            state.walk(1)
            if type(one) is not type(start):
                raise EvaluationError("no such overload")
            found = add(found, one)
        return found

    return total


def _extreme(name: str, sign: int) -> Callable[[Evaluation, list[Value]], Value]:
    def find(state: Evaluation, values: list[Value]) -> Value:
        if not values:
            raise EvaluationError(f"{name} called on empty list")
        found = values[0]
        for one in values[1:]:
            if _order(one, found, state) * sign > 0:
                found = one
        return found

    return find


def _index_of(state: Evaluation, values: list[Value], wanted: Value) -> int:
    return _first_place(state, range(len(values)), values, wanted)


def _last_index_of(state: Evaluation, values: list[Value], wanted: Value) -> int:
    return _first_place(state, range(len(values) - 1, -1, -1), values, wanted)


def _first_place(state: Evaluation, places: Iterable[int], values: list[Value], wanted: Value) -> int:
    for at in places:
        state.walk(1)
        if equal(values[at], wanted, state):
            return at
    return -1


def _slice(values: list[Value], start: int, end: int) -> list[Value]:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(values):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(values)}")
    return values[start:end]


def _flatten(state: Evaluation, values: list[Value], depth: int = 1) -> list[Value]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    found = values
    for _ in range(min(depth, 300)):
        flat: list[Value] = []
        has_lists = False
        for one in found:
            if isinstance(one, list):
                has_lists = True
                state.walk(1 + len(one) // 16)
                flat += one
            else:
                state.walk(1)
                flat.append(one)
            limit_made(len(flat))
        if not has_lists:
            break
        found = flat
    return found


def _sorted(state: Evaluation, values: list[Value]) -> list[Value]:
    return [values[at] for at in _sorted_places(state, values)]


def _sorted_by(state: Evaluation, values: list[Value], keys: list[Value]) -> list[Value]:
    return [values[at] for at in _sorted_places(state, keys)]


def _sorted_places(state: Evaluation, keys: list[Value]) -> list[int]:
    """Return the indices of the keys in the order of the keys."""
    for one in keys:
        state.walk(1)
        if type(one) is not type(keys[0]):
            raise EvaluationError("list elements must have the same type")

    def order(one: int, other: int) -> int:
        return _order(keys[one], keys[other], state)

    return sorted(range(len(keys)), key=cmp_to_key(order))


def _range(state: Evaluation, count: int) -> list[int]:
    limit_made(count)
    if count > state.limit - state.cost:
        # The list exceeds the cost limit, so this call raises. Creating such a list first would block other threads.
        state.add(count)
    return list(range(count))


def _distinct(state: Evaluation, values: list[Value]) -> list[Value]:
    found: list[Value] = []
    seen: set[tuple[type, Value]] = set()
    limit_made(len(values))
    for one in values:
        state.walk(1)
        if isinstance(one, str | bool | bytes):
            key = (type(one), one)
            if key in seen:
                continue
            seen.add(key)
        else:
            _limit_compared(len(found), len(values))
            if contains(found, one, state):
                continue
        found.append(one)
    return found


def _limit_compared(first: int, second: int) -> None:
    limit_made(first * second * 10 if first * second > _MOST_COMPARED else 0)


def _contains_all(state: Evaluation, values: list[Value], wanted: list[Value]) -> bool:
    _limit_compared(len(values), len(wanted))
    return all(contains(values, one, state) for one in wanted)


def _same_sets(state: Evaluation, first: list[Value], second: list[Value]) -> bool:
    return _contains_all(state, first, second) and _contains_all(state, second, first)


def _intersects(state: Evaluation, first: list[Value], second: list[Value]) -> bool:
    _limit_compared(len(first), len(second))
    return any(contains(second, one, state) for one in first)


def _product(args: tuple[Value, ...], result: Value) -> int:
    return 1 + len(args[1]) * len(args[2])


def _both_products(args: tuple[Value, ...], result: Value) -> int:
    return 1 + 2 * len(args[1]) * len(args[2])


def _present(value: Value) -> Optional:
    if isinstance(value, Timestamp | Duration):
        is_zero = value in (Duration(0), _ZERO_TIME)
        return Optional() if is_zero else Optional(True, value)
    is_zero = value is None or value is False or (not isinstance(value, bool) and value in (0, "", b"", [], {}))
    return Optional() if is_zero else Optional(True, value)


def _value_of(value: Optional) -> Value:
    if not value.has_value:
        raise EvaluationError("optional.none() dereference")
    return value.value


def _unwrapped(state: Evaluation, values: list[Optional]) -> list[Value]:
    state.walk(len(values))
    return [one.value for one in values if one.has_value]


def _optionals() -> Iterator[Overload]:
    yield declare("optional_of", ".optional.of(A) optional(A)", lambda value: Optional(True, value))
    yield declare("optional_ofNonZeroValue", ".optional.ofNonZeroValue(A) optional(A)", _present)
    yield declare("optional_none", ".optional.none() optional(A)", Optional)
    yield declare("optional_value", "optional(A).value() A", _value_of)
    yield declare("optional_hasValue", "optional(A).hasValue() bool", lambda value: value.has_value)
    yield declare("optional_or_optional", "optional(A).or(optional(A)) optional(A)", _value_of)
    yield declare("optional_orValue_value", "optional(A).orValue(A) A", _value_of)
    yield declare("optional_unwrap", ".optional.unwrap(list(optional(A))) list(A)", _unwrapped, counts_steps=True)
    yield declare("optional_unwrapOpt", "list(optional(A)).unwrapOpt() list(A)", _unwrapped, counts_steps=True)
    yield declare("list_first", "list(A).first() optional(A)",
                  lambda values: Optional(True, values[0]) if values else Optional())  # fmt: skip
    yield declare("list_last", "list(A).last() optional(A)",
                  lambda values: Optional(True, values[-1]) if values else Optional())  # fmt: skip


def list_library() -> Iterator[Overload]:
    """Yield the functions of lists, sets and optional values."""
    counted = partial(declare, counts_steps=True)
    for kind in _COMPARABLE:
        yield counted(f"list_{kind}_is_sorted_bool", f"list({kind}).isSorted() bool", _is_sorted, _tree_cost)
        yield counted(f"list_{kind}_max_{kind}", f"list({kind}).max() {kind}", _extreme("max", 1), _tree_cost)
        yield counted(f"list_{kind}_min_{kind}", f"list({kind}).min() {kind}", _extreme("min", -1), _tree_cost)
        yield counted(
            f"list_{kind}_sort", f"list({kind}).sort() list({kind})", _sorted, lambda args, _: _compared_cost(args[1])
        )
        signature = f"list(A).@sortByAssociatedKeys(list({kind})) list(A)"
        yield counted(
            f"list_{kind}_sortByAssociatedKeys", signature, _sorted_by, lambda args, _: _compared_cost(args[2])
        )
    for kind in _SUMS:
        yield counted(f"list_{kind}_sum_{kind}", f"list({kind}).sum() {kind}", _sum(kind), _tree_cost)
    yield counted("list_a_index_of_int", "list(A).indexOf(A) int", _index_of, _tree_cost)
    yield counted("list_a_last_index_of_int", "list(A).lastIndexOf(A) int", _last_index_of, _tree_cost)
    yield declare("list_slice", "list(A).slice(int, int) list(A)", _slice, _made_cost)
    yield counted("list_flatten", "list(list(A)).flatten() list(A)", _flatten, _flatten_cost)
    yield counted("list_flatten_int", "list(dyn).flatten(int) list(dyn)", _flatten, _flatten_cost)
    yield counted("lists_range", ".lists.range(int) list(int)", _range, _made_cost)
    yield declare("list_reverse", "list(A).reverse() list(A)", lambda values: values[::-1], _made_cost)
    yield counted("list_distinct", "list(A).distinct() list(A)", _distinct, lambda args, _: _compared_cost(args[1]))
    yield counted("list_sets_contains_list", ".sets.contains(list(A), list(A)) bool", _contains_all, _product)
    yield counted("list_sets_equivalent_list", ".sets.equivalent(list(A), list(A)) bool", _same_sets, _both_products)
    yield counted("list_sets_intersects_list", ".sets.intersects(list(A), list(A)) bool", _intersects, _product)
    yield from _optionals()
