"""The keys of maps: how a map stores them, and which key finds which entry (cel-go `common/types/map.go`).

A map is a dictionary. A string key is stored as it is, so the objects of JSON are maps without a copy. Any other key is
stored with its type, because Python's dictionaries take `True`, `1` and `1.0` for one key. In CEL, a bool key is never
a number. Numbers of different types are different keys, but an int key and a uint key find each other's entry, and a
double key finds the entries of both.

Only strings, numbers, bools, null, durations, timestamps and types can be keys. With bytes as keys cel-go crashes;
it never finds lists and maps as keys.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from hatchway.cluster.api.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    Duration,
    EvaluationError,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    show_double,
)

__all__ = ["MISSING", "constant_members", "entries", "find", "insert", "is_member", "keys", "put", "remove", "show_key"]

# What `find` returns for a key that a map does not have.
MISSING: Value = object()
_PRIMITIVE = frozenset((bool, int, UInt, float, str))
_TYPES = frozenset((bool, int, UInt, float, type(None), Duration, Timestamp, TypeValue))


def _stored(key: Value) -> Hashable | None:
    """Return the form in which a map stores a key; None for a value that cannot be a key."""
    kind = type(key)
    if kind is str:
        return key  # type: ignore[no-any-return]
    if kind is float:
        # The float must be a new object: tuples with the same object are equal, but NaN is not equal to NaN.
        return float, key * 1.0
    return (kind, key) if kind in _TYPES else None


def _whole(number: float) -> Iterator[Hashable]:
    """Yield the stored forms of the int and the uint that are equal to a double."""
    if number.is_integer():
        # As in cel-go, the lowest int does not count.
        if MIN_INT < number < MAX_INT + 1:
            yield int, int(number)
        if 0 <= number < MAX_UINT + 1:
            yield UInt, int(number)


def _others(key: Value) -> Iterator[Hashable]:
    """Yield the stored forms of the keys of other types that have the same entry as a number."""
    kind = type(key)
    if kind is int and key >= 0:
        yield UInt, key
    elif kind is UInt and key <= MAX_INT:
        yield int, key
    elif kind is float:
        yield from _whole(key)


def find(found: Mapping[Value, Value], key: Value) -> Value:
    """Return the value of a key; MISSING if the map has no such key."""
    if type(key) is str:
        # Not `get`: the maps of custom types raise an error for fields whose values have a wrong type.
        try:
            return found[key]
        except KeyError:
            return MISSING
    stored = _stored(key)
    if stored is not None:
        if stored in found:
            return found[stored]
        for other in _others(key):
            if other in found:
                return found[other]
    return MISSING


def put(found: dict[Value, Value], key: Value, value: Value) -> None:
    """Add an entry to a new map, in place of an entry with the same key. Raises EvaluationError for a wrong type."""
    stored = _stored(key)
    if stored is None:
        raise EvaluationError("unsupported key type")
    found[stored] = value


def remove(found: dict[Value, Value], key: Value) -> None:
    """Remove the entry of a new map that has this key, if there is one."""
    found.pop(_stored(key), None)


def insert(found: dict[Value, Value], key: Value, value: Value) -> None:
    """Add an entry to a new map. Raises EvaluationError if the key finds an entry, or for a key of a wrong type."""
    if find(found, key) is not MISSING:
        raise EvaluationError(f"insert failed: key {show_key(key)} already exists")
    put(found, key, value)


def keys(found: Mapping[Value, Value]) -> Iterator[Value]:
    """Yield the keys of a map."""
    for key in found:
        yield key[1] if type(key) is tuple else key


def entries(found: Mapping[Value, Value]) -> Iterator[tuple[Value, Value]]:
    """Yield the keys of a map with their values."""
    for key, value in found.items():
        yield key[1] if type(key) is tuple else key, value


def show_key(key: Value) -> str:
    """Return the text of a key for the message of an error."""
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    return show_double(key) if isinstance(key, float) else str(key)


def constant_members(values: list[Value]) -> frozenset[Hashable] | None:
    """Return what `is_member` needs for a list of constants; None unless all are strings, numbers or bools.

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
    """Return True if a value is equal to one of the constants whose `constant_members` these are."""
    stored = _stored(value)
    return stored is not None and stored in members
