"""The steps of an expression: fields, indices, operators and calls, each with its cost (cel-go `interpreter/`).

Costs follow cel-go's `interpreter/runtimecost.go` and Kubernetes' libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchway.cluster.api.cel.celtypes import CelType, Overload
from hatchway.cluster.api.cel.equality import equal
from hatchway.cluster.api.cel.lexer import RESERVED
from hatchway.cluster.api.cel.mapkeys import MISSING, constant_members, entries, find, is_member, show_key
from hatchway.cluster.api.cel.objectvalues import PatchOperation
from hatchway.cluster.api.cel.state import Evaluation, Step
from hatchway.cluster.api.cel.values import (
    MAX_INT,
    MIN_INT,
    EvaluationError,
    Optional,
    Value,
    kind_name,
    size_of,
    type_name,
)

# A value with more parts than this counts as large.
_LARGE = 256


def no_overload() -> EvaluationError:
    """Return the error for a call whose arguments have types that the function does not accept."""
    return EvaluationError("no such overload")


def _no_key(key: Value) -> EvaluationError:
    return EvaluationError(f"no such key: {show_key(key)}")


def _wrong_index(key: Value) -> EvaluationError:
    return EvaluationError(f"unsupported index type '{type_name(key)}' in list")


def has_field(value: Value, field: str) -> bool:
    """Return True when an object has a field. Values without fields have none. Raises EvaluationError for lists."""
    if isinstance(value, Optional):
        return value.has_value and has_field(value.value, field)
    if isinstance(value, PatchOperation):
        return value.has(field)
    if isinstance(value, list):
        raise _wrong_index(field)
    if not isinstance(value, dict):
        return False
    return field in value or (field in RESERVED and f"__{field}__" in value)


def get_field(value: Value, field: str) -> Value:
    """Return the field of an object. Raises EvaluationError."""
    if isinstance(value, Optional):
        return find_field(value, field)
    if isinstance(value, PatchOperation):
        return value.get(field)
    if isinstance(value, list):
        raise _wrong_index(field)
    if not isinstance(value, dict):
        raise _no_key(field)
    if field in RESERVED and f"__{field}__" in value:
        return value[f"__{field}__"]
    try:
        return value[field]
    except KeyError:
        raise _no_key(field) from None


def find_field(value: Value, field: str) -> Optional:
    """Return the field of an object as an optional value, without a value when the field is missing."""
    if isinstance(value, Optional):
        if not value.has_value:
            return value
        value = value.value
    return Optional(True, get_field(value, field)) if has_field(value, field) else Optional()


def optional_field(operand: Step, field: str) -> Step:
    """Return the step of `operand.?field`."""

    def run(state: Evaluation) -> Value:
        value = operand(state)
        state.add(1)
        return find_field(value, field)

    return run


def at_index(value: Value, key: Value) -> Value:
    """Return the element of a list or a map. Raises EvaluationError."""
    if isinstance(value, list):
        number = _list_index(key)
        if not 0 <= number < len(value):
            raise EvaluationError(f"index out of bounds: {number}")
        return value[number]
    found = find(value, key) if isinstance(value, dict) else MISSING
    if found is MISSING:
        raise _no_key(key)
    return found


def _list_index(key: Value) -> int:
    """Return the index that a value stands for (cel-go `IndexOrError`). Raises EvaluationError."""
    if isinstance(key, bool) or not isinstance(key, int | float):
        raise _wrong_index(key)
    # As in cel-go, the lowest int as a double is not accepted.
    is_whole = MIN_INT < key < MAX_INT + 1 and key.is_integer() if isinstance(key, float) else key <= MAX_INT
    if not is_whole:
        raise EvaluationError(f"unsupported index value {show_key(key)} in list")
    return int(key)


def _find_index(value: Value, key: Value) -> Optional:
    if isinstance(value, Optional):
        return _find_index(value.value, key) if value.has_value else value
    if isinstance(value, list):
        number = _list_index(key)
        return Optional(True, value[number]) if 0 <= number < len(value) else Optional()
    found = find(value, key) if isinstance(value, dict) else MISSING
    return Optional() if found is MISSING else Optional(True, found)


def element(operand: Step, key_step: Step) -> Step:
    """Return the step of `operand[key]`."""

    def run(state: Evaluation) -> Value:
        value, key = operand(state), key_step(state)
        state.add(1)
        return _find_index(value, key) if isinstance(value, Optional) else at_index(value, key)

    return run


def optional_element(operand: Step, key_step: Step) -> Step:
    """Return the step of `operand[?key]`."""

    def run(state: Evaluation) -> Value:
        value, key = operand(state), key_step(state)
        state.add(1)
        return _find_index(value, key)

    return run


def fallback(operand: Step, other: Step, *, unwrap: bool) -> Step:
    """Return the step of `operand.or(other)`, or of `operand.orValue(other)` if `unwrap` is True."""

    def run(state: Evaluation) -> Value:
        value = operand(state)
        state.add(1)
        if not isinstance(value, Optional):
            raise no_overload()
        if value.has_value:
            return value.value if unwrap else value
        return other(state)

    return run


def all_of(parts: list[Step]) -> Step:
    """Return the step of `&&`. It fails with the error of an operand only if no operand is false."""

    def run(state: Evaluation) -> Value:
        failed: EvaluationError | None = None
        for part in parts:
            try:
                value = part(state)
            except EvaluationError as error:
                failed = failed or error
                continue
            if value is False:
                return False
            if value is not True:
                failed = failed or no_overload()
        if failed is not None:
            raise failed
        return True

    return run


def any_of(parts: list[Step]) -> Step:
    """Return the step of `||`. It fails with the error of an operand only if no operand is true."""

    def run(state: Evaluation) -> Value:
        failed: EvaluationError | None = None
        for part in parts:
            try:
                value = part(state)
            except EvaluationError as error:
                failed = failed or error
                continue
            if value is True:
                return True
            if value is not False:
                failed = failed or no_overload()
        if failed is not None:
            raise failed
        return False

    return run


def choice(condition: Step, chosen: Step, other: Step) -> Step:
    """Return the step of `condition ? chosen : other`."""

    def run(state: Evaluation) -> Value:
        value = condition(state)
        if value is True:
            return chosen(state)
        if value is False:
            return other(state)
        raise no_overload()

    return run


def equality(first: Step, second: Step, *, wanted: bool) -> Step:
    """Return the step of `==` (`wanted` is True) or `!=`."""

    def run(state: Evaluation) -> Value:
        one, other = first(state), second(state)
        # As in cel-go, the cost depends on the sizes of texts, lists and maps. Other values have the size 1.
        state.add(-(-min(size_of(one), size_of(other)) // 10))
        return equal(one, other, state) is wanted

    return run


def constant_membership(item: Step, values: list[Value]) -> Step | None:
    """Return the step of `item in values` for a list of constants; None if its elements must be compared one by one."""
    if not values:
        return lambda state: False
    members = constant_members(values)
    return None if members is None else lambda state: is_member(members, item(state))


def membership(item: Step, container: Step) -> Step:
    """Return the step of `item in container`."""

    def run(state: Evaluation) -> Value:
        value, found = item(state), container(state)
        if isinstance(found, dict):
            state.add(1)
            return find(found, value) is not MISSING
        if not isinstance(found, list):
            raise no_overload()
        state.add(len(found))
        for one in found:
            state.walk(1)
            if equal(value, one, state):
                return True
        return False

    return run


def direct(overload: Overload, args: list[Step]) -> Step:
    """Return the step of a call whose overload the checker has chosen."""
    call, cost = overload.call, overload.cost
    if overload.counts_steps:
        return lambda state: _apply(state, call, cost, (state, *[one(state) for one in args]))

    def run(state: Evaluation) -> Value:
        values = tuple([one(state) for one in args])
        return _apply(state, call, cost, values)

    return run


def _apply(
    state: Evaluation, call: Callable[..., Value], cost: Callable[[tuple[Value, ...], Value], int] | None, values: Any
) -> Value:
    # The cost may depend on the result, so it is added after the call. The functions limit the size of their results.
    try:
        result = call(*values)
    except (TypeError, AttributeError):
        # The value of a nullable field was null. The checker has accepted the call, because it ignores `nullable`.
        raise no_overload() from None
    if isinstance(result, list | str) and len(result) > _LARGE:
        state.made(len(result))
    if cost is None:
        state.add(1)
        return result
    price = cost(values, result)
    state.add(price)
    if price > 100:
        state.watch()
    return result


def dispatched(overloads: list[Overload], args: list[Step]) -> Step:
    """Return the step of a call whose overload is chosen during the evaluation, by the types of the values."""

    def run(state: Evaluation) -> Value:
        values = tuple([one(state) for one in args])
        for overload in overloads:
            if all(map(_fits, values, overload.arguments)):
                given = (state, *values) if overload.counts_steps else values
                return _apply(state, overload.call, overload.cost, given)
        raise no_overload()

    return run


def _fits(value: Value, wanted: CelType) -> bool:
    if wanted.is_dyn:
        return True
    if wanted.kind in ("opaque", "object"):
        return type_name(value) == wanted.name
    if kind_name(value) != wanted.kind:
        return False
    # As in cel-go, only the first element or entry counts, and an empty list or map fits each type.
    if wanted.kind == "list" and value:
        return _fits(value[0], wanted.parameters[0])
    if wanted.kind == "map" and value:
        key, one = next(iter(entries(value)))
        return _fits(key, wanted.parameters[0]) and _fits(one, wanted.parameters[1])
    return True
