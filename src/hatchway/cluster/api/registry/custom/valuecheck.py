"""Checks the values of an object against the schema of its custom type.

Errors have the order and the words of kube-openapi's `pkg/validation/validate`. They become field errors as in
apiextensions-apiserver's `pkg/apiserver/validation/validation.go`. In an update, only changed values are checked
(`ratcheting.go`), so values that were stored under an older schema do not block other changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.node import MISSING, SchemaNode, scalar
from hatchway.cluster.api.registry.custom.samevalue import same_value
from hatchway.errors import ApiError, Cause

__all__ = ["BLOCKING", "check_value"]

Json = Any

# If an object has an error with one of these reasons, its rules are not evaluated (`hasBlockingErr`).
BLOCKING = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)
_MOST_CAUSES = 1000
# The maximum number of characters of all messages together. Each message may list all values of a large enumeration.
_MOST_TEXT = 128 * 1024
# The maximum number of checks of a value against a schema for one object. Without a limit, a long list whose items have
# hundreds of alternatives (anyOf) could occupy a thread for hours.
_MOST_CHECKS = 500_000
_RANGES = {"int32": 31, "int64": 63}


def check_value(value: Json, node: SchemaNode, path: str, old: Json = MISSING) -> list[Cause]:
    """Return the errors in a value.

    Args:
        value: the value, after defaults were set and unknown fields were removed.
        node: its schema.
        path: the value's field, "" for a whole object.
        old: the former value; MISSING for a new value.

    Raises:
        ApiError: 413 when the object needs more than 500,000 checks.
    """
    return _collect(value, node, path, old, _Work())


class _Work:
    """Counts the checks of one object."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MOST_CHECKS

    def add(self, checks: int) -> None:
        """Count checks before they are made. Raises ApiError 413 when there are too many."""
        self._left -= checks
        if self._left < 0:
            message = f"the object cannot be checked: with its schema, more than {_MOST_CHECKS} checks are needed"
            raise ApiError(413, "RequestEntityTooLarge", message)


def _collect(value: Json, node: SchemaNode, path: str, old: Json, work: _Work) -> list[Cause]:
    found: list[Cause] = []
    size = 0
    for cause in _check(value, node, path, old, work):
        found.append(cause)
        size += len(cause.message)
        if len(found) >= _MOST_CAUSES or size >= _MOST_TEXT:
            break
    return found


def _check(value: Json, node: SchemaNode, path: str, old: Json, work: _Work) -> Iterator[Cause]:
    if old is not MISSING and same_value(value, old):
        return
    work.add(1)
    yield from _check_type(value, node, path)
    if value is None:
        yield from _check_enum(value, node, path, work)
        return
    yield from _check_combinations(value, node, path, work)
    if isinstance(value, str):
        yield from _check_string(value, node, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(value, node, path)
    elif isinstance(value, list):
        yield from _check_list(value, node, path, old, work)
    yield from _check_enum(value, node, path, work)
    if isinstance(value, dict):
        yield from _check_object(value, node, path, old, work)


def type_name(value: Json) -> str:
    """Return the name of a value's JSON type, as used in messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _type_error(path: str, kind: str, value: Json) -> Cause:
    text = f"{path} in body must be of type {kind}: {v.quote(str(value))}"
    return Cause("FieldValueTypeInvalid", f"Invalid value: {v.show(value)}: {text}", path or "<nil>")


def _check_type(value: Json, node: SchemaNode, path: str) -> Iterator[Cause]:
    types = node.types
    if not types or (value is None and node.nullable):
        return
    name = type_name(value)
    if name in types or (name == "integer" and "number" in types):
        return
    if name == "number" and "integer" in types and value.is_integer():
        return
    yield _type_error(path, ",".join(types), name)


def _composite(text: str) -> Cause:
    # As in Kubernetes, these errors have no field.
    return Cause("FieldValueInvalid", f'Invalid value: "": {text}', "<nil>")


def _check_combinations(value: Json, node: SchemaNode, path: str, work: _Work) -> Iterator[Cause]:
    where = v.quote(path)
    if node.any_of:
        results = [_collect(value, one, path, MISSING, work) for one in node.any_of]
        if all(results):
            yield _composite(f"{where} must validate at least one schema (anyOf)")
            yield from min(results, key=len)
    if node.one_of:
        results = [_collect(value, one, path, MISSING, work) for one in node.one_of]
        valid = sum(not causes for causes in results)
        if valid != 1:
            why = f"Found {valid} valid alternatives" if valid else "Found none valid"
            yield _composite(f"{where} must validate one and only one schema (oneOf). {why}")
            if not valid:
                yield from min(results, key=len)
    if node.all_of:
        results = [_collect(value, one, path, MISSING, work) for one in node.all_of]
        for causes in results:
            yield from causes
        if any(results):
            why = ". None validated" if all(results) else ""
            yield _composite(f"{where} must validate all the schemas (allOf){why}")
    if node.negated is not None and not _collect(value, node.negated, path, MISSING, work):
        yield _composite(f"{where} must not validate the schema (not)")


def _check_string(value: str, node: SchemaNode, path: str) -> Iterator[Cause]:
    if node.max_length is not None and len(value) > node.max_length:
        yield v.too_long(path, node.max_length)
    elif node.min_length is not None and len(value) < node.min_length:
        yield v.invalid(path, value, f"{path} in body should be at least {node.min_length} chars long")
    elif node.pattern is not None and not node.pattern.matches(value):
        yield v.invalid(path, value, f"{path} in body should match '{node.pattern.source}'")
    if node.check_format is not None and not node.check_format(value):
        yield _type_error(path, node.format, value)


def _check_number(value: int | float, node: SchemaNode, path: str) -> Iterator[Cause]:
    bits = _RANGES.get(node.format)
    if bits is not None and not -(2**bits) <= value < 2**bits:
        yield _composite(f"Checked value must be of type {node.type} with format {node.format}")
    if node.multiple_of is not None and node.multiple_of <= 0:
        text = f"factor MultipleOf declared for {path} must be positive: {show_number(node.multiple_of)}"
        yield v.invalid(path, value, text)
    elif node.multiple_of is not None and not _is_multiple(value, node.multiple_of):
        yield v.invalid(path, value, f"{path} in body should be a multiple of {show_number(node.multiple_of)}")
    high, low = node.maximum, node.minimum
    if high is not None and (value >= high if node.excludes_maximum else value > high):
        words = "less than" if node.excludes_maximum else "less than or equal to"
        yield v.invalid(path, value, f"{path} in body should be {words} {show_number(high)}")
    if low is not None and (value <= low if node.excludes_minimum else value < low):
        words = "greater than" if node.excludes_minimum else "greater than or equal to"
        yield v.invalid(path, value, f"{path} in body should be {words} {show_number(low)}")


def _is_multiple(value: float, factor: float) -> bool:
    if isinstance(value, int) and float(factor).is_integer():
        return value % int(factor) == 0
    return (value / factor).is_integer()


def show_number(value: float) -> str:
    """Return a number as Go's %v writes a float64: `1`, `0.5`, `1e+21`."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e21):
        return str(int(value)) if abs(value) < 1e21 else f"{float(value):g}"
    return repr(value)


def _check_list(value: list[Json], node: SchemaNode, path: str, old: Json, work: _Work) -> Iterator[Cause]:
    if node.items is not None:
        former = _correlated(value, node, old)
        for index, one in enumerate(value):
            yield from _check(one, node.items, f"{path}[{index}]", former[index], work)
    count = len(value)
    if node.min_items is not None and count < node.min_items:
        yield v.invalid(path, count, f"{path} in body should have at least {node.min_items} items")
    if node.max_items is not None and count > node.max_items:
        yield v.too_many(path, count, node.max_items)


def _correlated(value: list[Json], node: SchemaNode, old: Json) -> list[Json]:
    """Return, for each item, the former item with the same keys; MISSING unless exactly one such item exists."""
    if node.list_type != "map" or not isinstance(old, list):
        return [MISSING] * len(value)
    former: dict[tuple[str, ...], Json] = {}
    for one in old:
        key = _key(one, node.list_keys)
        former[key] = MISSING if key in former else one
    return [former.get(_key(one, node.list_keys), MISSING) for one in value]


def _key(item: Json, names: tuple[str, ...]) -> tuple[str, ...]:
    fields = item if isinstance(item, dict) else {}
    return tuple(repr(fields.get(name)) for name in names)


def _check_enum(value: Json, node: SchemaNode, path: str, work: _Work) -> Iterator[Cause]:
    if not node.enum:
        return
    if isinstance(value, dict | list):
        work.add(len(node.enum))
        known = any(same_value(value, one) for one in node.enum)
    else:
        known = scalar(value) in node.scalars
    if not known:
        allowed = [one if isinstance(one, str) else v.show(one) for one in node.enum]
        yield v.not_supported(path, value, allowed)


def _check_object(value: dict[str, Json], node: SchemaNode, path: str, old: Json, work: _Work) -> Iterator[Cause]:
    count = len(value)
    if node.min_properties is not None and count < node.min_properties:
        yield v.invalid(path, count, f"{path} in body should have at least {node.min_properties} properties")
    if node.max_properties is not None and count > node.max_properties:
        yield v.too_many(path, count, node.max_properties)
    work.add(len(node.required))
    for name in node.required:
        if name not in value:
            yield v.required(_child(path, name))
    former = old if isinstance(old, dict) else {}
    for name in sorted(value):
        inner = node.property(name)
        if inner is not None:
            yield from _check(value[name], inner, _child(path, name), former.get(name, MISSING), work)
        elif node.additional is False:
            text = f"{_child(path, name)} in body is a forbidden property"
            yield v.invalid(path or "<nil>", "", text)


def _child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
