"""The keys of maps: how a map stores them, and which key finds which entry (cel-go `common/types/map.go`).

A map is a dictionary. A string key is stored as it is, so the objects of JSON are maps without a copy. Any other key is
stored with its type, because Python's dictionaries take `True`, `1` and `1.0` for one key. In CEL, a bool key is never
a number. Numbers of different types are different keys, but an int key and a uint key find each other's entry, and a
double key finds the entries of both.

Only strings, numbers, bools, null, durations, timestamps and types can be keys. With bytes as keys cel-go crashes;
a lookup by a list or a map never finds an entry.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from itertools import islice

from hatchway.cluster.api.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    Duration,
    EvaluationError,
    Optional,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    show_double,
    type_name,
)

__all__ = ["MISSING", "constant_members", "entries", "find", "insert", "is_member", "keys", "put", "remove", "show_key"]

# The result of `find` for a key that a map does not have.
MISSING: Value = object()
# The maximum number of parts of a list or a map that an error shows, and the maximum number of characters of a text in
# them.
_MOST_SHOWN, _LONGEST_PART = 200, 1000
_PRIMITIVE = frozenset((bool, int, UInt, float, str))
_TYPES = frozenset((bool, int, UInt, float, type(None), Duration, Timestamp, TypeValue))


def _stored(key: Value) -> Hashable | None:
    """Return the form in which a map stores a key; None for a value that cannot be a key."""
    kind = type(key)
    if kind is str:
        return key  # type: ignore[no-any-return]
    if kind is float:
        # Make a new float: Python treats tuples with the identical object as equal, but NaN must not find itself.
        return float, key * 1.0
    return (kind, key) if kind in _TYPES else None


def _whole(number: float) -> Iterator[Hashable]:
    """Yield the stored forms of the int and the uint that are equal to a double."""
    if number.is_integer():
        # As in cel-go, a double that equals the lowest int finds no entry.
        if MIN_INT < number < MAX_INT + 1:
            yield int, int(number)
        if 0 <= number < MAX_UINT + 1:
            yield UInt, int(number)


def _others(key: Value) -> Iterator[Hashable]:
    """Yield the other stored forms under which a numeric key may find its entry: equal numbers of other types."""
    kind = type(key)
    if kind is int and key >= 0:
        yield UInt, key
    elif kind is UInt and key <= MAX_INT:
        yield int, key
    elif kind is float:
        yield from _whole(key)


def find(mapping: Mapping[Value, Value], key: Value) -> Value:
    """Return the value of a key; MISSING if the map has no such key."""
    if type(key) is str:
        # Do not use `get`, because it bypasses `__getitem__`. For custom types, `__getitem__` raises an error if the
        # value of a field has a wrong type.
        try:
            return mapping[key]
        except KeyError:
            return MISSING
    stored = _stored(key)
    if stored is not None:
        if stored in mapping:
            return mapping[stored]
        for other in _others(key):
            if other in mapping:
                return mapping[other]
    return MISSING


def put(mapping: dict[Value, Value], key: Value, value: Value) -> None:
    """Add an entry to a new map, in place of an entry with the same key. Raises EvaluationError for a wrong type."""
    stored = _stored(key)
    if stored is None:
        raise EvaluationError("unsupported key type")
    mapping[stored] = value


def remove(mapping: dict[Value, Value], key: Value) -> None:
    """Remove the entry of a new map that has this key, if there is one."""
    mapping.pop(_stored(key), None)


def insert(mapping: dict[Value, Value], key: Value, value: Value) -> None:
    """Add an entry to a new map. Raises EvaluationError if the key finds an entry, or for a key of a wrong type."""
    if find(mapping, key) is not MISSING:
        raise EvaluationError(f"insert failed: key {show_key(key)} already exists")
    put(mapping, key, value)


def keys(mapping: Mapping[Value, Value]) -> Iterator[Value]:
    """Yield the keys of a map."""
    for key in mapping:
        yield key[1] if type(key) is tuple else key


def entries(mapping: Mapping[Value, Value]) -> Iterator[tuple[Value, Value]]:
    """Yield the keys of a map with their values."""
    for key, value in mapping.items():
        yield key[1] if type(key) is tuple else key, value


def show_key(key: Value) -> str:
    """Return the text of a key for the message of an error. The text of a long list or map is cut off.

    Any value can be used to look up an entry. The format is Go's `%v` of cel-go's values.
    """
    if isinstance(key, str):
        return key
    found: list[str] = []
    for part in islice(_shown(key), _MOST_SHOWN):
        found.append(part[:_LONGEST_PART])
    return "".join(found) + ("..." if len(found) == _MOST_SHOWN else "")


def _shown(value: Value) -> Iterator[str]:
    """Yield the parts of the text of a value."""
    if isinstance(value, list):
        yield "["
        for at, one in enumerate(value):
            if at:
                yield ", "
            yield from _shown(one)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for at, (key, one) in enumerate(entries(value)):
            yield f", {show_key(key)}: " if at else f"{show_key(key)}: "
            yield from _shown(one)
        yield "}"
    elif isinstance(value, Optional):
        yield "optional(" if value.has_value else "optional.none()"
        if value.has_value:
            yield from _shown(value.value)
            yield ")"
    else:
        yield _show_scalar(value)


def _show_scalar(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return show_double(value)
    if isinstance(value, bytes):
        return f"[{' '.join(map(str, value[:_MOST_SHOWN]))}]"
    if isinstance(value, TypeValue):
        return value.name
    return str(value) if isinstance(value, str | int | Duration | Timestamp) else type_name(value)


def constant_members(values: list[Value]) -> frozenset[Hashable] | None:
    """Return the keys of a list of constants for `is_member`; None unless all are strings, numbers or bools.

    From cel-go's `interpreter/decorators.go` (maybeOptimizeSetMembership).
    """
    found: set[Hashable] = set()
    for one in values:
        kind = type(one)
        if kind not in _PRIMITIVE:
            return None
        found.update((_stored(one), *_others(one)))
        if kind in (int, UInt):
            found.add((float, float(one)))
    return frozenset(found)


def is_member(members: frozenset[Hashable], value: Value) -> bool:
    """Return True if `value` equals one of the constants. members: the result of `constant_members`."""
    stored = _stored(value)
    return stored is not None and stored in members
