"""Sets of field paths, in the format of `managedFields` (FieldsV1).

A set is a tree of dictionaries. A key is a path element: `f:NAME` is a field; `k:{"name":"a"}` is an item of a list,
identified by its keys; `v:"a"` is an item of a set, identified by its value; `i:0` is an item, identified by its index.
A path is a member of the set when its dictionary is empty or has the key `.`:

    {"f:spec": {"f:replicas": {}, "f:template": {".": {}, "f:metadata": {}}}}

Sets may share parts, so they are never changed in place. The functions return sets without empty branches. If the
arguments have the order of structured-merge-diff (`fieldpath/{set,element,serialize}.go`), the results have this order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = [
    "MEMBER",
    "BadFields",
    "PathSet",
    "canonical",
    "count",
    "difference",
    "has",
    "in_order",
    "intersection",
    "is_member",
    "key_element",
    "keys_of",
    "make",
    "paths",
    "recursive_difference",
    "show",
    "union",
    "union_of",
    "value_element",
    "whole",
    "without_self",
]

PathSet = dict[str, Any]
# The dictionary of a path that is a member, when no path below it is a member.
MEMBER: PathSet = {}
_SELF = "."
# The maximum number of levels of a client's set. Objects are not nested deeper.
_MOST_LEVELS = 300
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class BadFields(Exception):
    """Raised for a value that is not a set of fields."""


def is_member(node: PathSet) -> bool:
    """Return True when the path that leads to a dictionary is a member of the set."""
    return not node or _SELF in node


def without_self(node: PathSet) -> PathSet:
    """Return the set without the path that leads to the dictionary: only the paths below it."""
    return {key: one for key, one in node.items() if key != _SELF} if _SELF in node else node


def _joined(member: bool, below: PathSet) -> PathSet | None:
    if not member:
        return below or None
    return {_SELF: MEMBER, **below} if below else MEMBER


def key_element(keys: dict[str, Any]) -> str:
    """Return the path element of a list's item with these keys and values."""
    return "k:" + _encode(keys).decode()


def value_element(value: Any) -> str:
    """Return the path element of a set's item."""
    return "v:" + _encode(whole(value)).decode()


def whole(value: Any) -> Any:
    """Return an integer for a float like 1.0, because structured-merge-diff treats 1 and 1.0 as the same value."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def make(*wanted: tuple[str, ...]) -> PathSet:
    """Return a set of paths. wanted: each path as a tuple of field names."""
    found: PathSet = {}
    for path in wanted:
        node = MEMBER
        for name in reversed(path):
            node = {f"f:{name}": node}
        found = union(found, node)
    return found


def union(left: PathSet, right: PathSet) -> PathSet:
    """Return the paths that are in at least one of two sets."""
    if not left or not right:
        return left or right
    found = dict(left)
    added = False
    for key, one in right.items():
        mine = found.get(key)
        if mine is None:
            found[key] = one
            added = True
        elif mine is not one:
            below = union(without_self(mine), without_self(one))
            found[key] = _joined(is_member(mine) or is_member(one), below)
    return in_order(found) if added else found


def union_of(sets: list[PathSet]) -> PathSet:
    """Return the paths of all sets. Sets are joined in pairs, because joining one after the other takes longer."""
    while len(sets) > 1:
        pairs = [union(sets[index], sets[index + 1]) for index in range(0, len(sets) - 1, 2)]
        sets = [*pairs, *sets[len(pairs) * 2 :]]
    return sets[0] if sets else {}


def intersection(left: PathSet, right: PathSet) -> PathSet:
    """Return the paths that are in both sets."""
    found: PathSet = {}
    for key, one in left.items():
        other = right.get(key)
        if other is None:
            continue
        node = _joined(is_member(one) and is_member(other), intersection(without_self(one), without_self(other)))
        if node is not None:
            found[key] = node
    return found


def difference(left: PathSet, right: PathSet) -> PathSet:
    """Return the paths of `left` that are not in `right`. A path below a path of `right` stays."""
    if not right or not left:
        return left
    found: PathSet = {}
    for key, one in left.items():
        other = right.get(key)
        if other is None:
            found[key] = one
            continue
        node = _joined(is_member(one) and not is_member(other), difference(without_self(one), without_self(other)))
        if node is not None:
            found[key] = node
    return found


def recursive_difference(left: PathSet, right: PathSet) -> PathSet:
    """Return the paths of `left` that are neither in `right` nor below a path of `right`."""
    if not right or not left:
        return left
    found: PathSet = {}
    for key, one in left.items():
        other = right.get(key)
        if other is None:
            found[key] = one
        elif not is_member(other):
            node = _joined(is_member(one), recursive_difference(without_self(one), other))
            if node is not None:
                found[key] = node
    return found


def has(fields: PathSet, path: tuple[str, ...]) -> bool:
    """Return True when a path (of elements) is a member."""
    node = fields
    for element in path:
        found = node.get(element)
        if found is None:
            return False
        node = found
    return bool(path) and is_member(node)


def paths(fields: PathSet) -> Iterator[tuple[str, ...]]:
    """Yield the paths as tuples of elements: at each level, first the members, then the paths below (`Set.Iterate`)."""
    below = [(key, one) for key, one in fields.items() if key != _SELF]
    for key, one in below:
        if is_member(one):
            yield (key,)
    for key, one in below:
        for rest in paths(without_self(one)):
            yield (key, *rest)


def count(fields: PathSet) -> int:
    """Return the number of path elements in a set, as a measure of its size."""
    total, waiting = 0, [fields]
    while waiting:
        one = waiting.pop()
        total += len(one)
        waiting.extend(one.values())
    return total


def keys_of(element: str) -> dict[str, Any]:
    """Return the keys and values of an element `k:...`."""
    found: dict[str, Any] = _decode(element[2:])
    return found


def show(path: tuple[str, ...]) -> str:
    """Return a path for error messages: `.spec.containers[name="a"].image`."""
    return "".join(map(_shown, path))


def _shown(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return f".{text}"
    if kind == "k:":
        return f"[{','.join(f'{name}={_text(value)}' for name, value in keys_of(element).items())}]"
    return f"[={text}]" if kind == "v:" else f"[{text}]"


def _text(value: Any) -> str:
    return _encode(value).decode()


# Order, and sets that clients send


def in_order(fields: PathSet) -> PathSet:
    """Return a set with the elements of its first level in order."""
    if all(key[0] in ".f" for key in fields):
        return dict(sorted(fields.items()))
    return dict(sorted(fields.items(), key=lambda item: _rank(item[0])))


def _rank(element: str) -> tuple[Any, ...]:
    kind = element[0]
    if kind == "k":
        return (1, *((name, *_value_rank(value)) for name, value in sorted(keys_of(element).items())))
    if kind == "v":
        return (2, _value_rank(_decode(element[2:])))
    if kind == "i":
        return (3, int(element[2:]))
    return (0, element)


def _value_rank(value: Any) -> tuple[int, Any]:
    """Return a sort key for a value (`value.Compare`): numbers, strings, booleans, then other values by their JSON."""
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, int | float):
        return (0, value)
    if isinstance(value, str):
        return (1, value)
    return (3, _text(value))


def canonical(fields: Any, level: int = 0) -> PathSet:
    """Return the normal form of a client's set: sorted, with normal spellings, without unknown kinds of elements.

    Raises BadFields.
    """
    if not isinstance(fields, dict):
        raise BadFields("fields are not an object")
    if level > _MOST_LEVELS:
        raise BadFields("fields are nested too deep")
    found: PathSet = {}
    for key, one in fields.items():
        if key == _SELF:
            continue
        element = _element(key)
        if element is None:
            continue
        inner = canonical(one, level + 1)
        node = _joined(not inner or _SELF in one, inner)
        found[element] = MEMBER if node is None else node
    return in_order(found)


def _element(key: str) -> str | None:
    """Return the normal spelling of a path element; None for an unknown kind of element."""
    if len(key) < 2:
        raise BadFields("key must be 2 characters long:")
    kind, text = key[:2], key[2:]
    if kind[1] != ":":
        raise BadFields(f"missing colon: {key}")
    if kind == "f:":
        return key
    try:
        if kind == "v:":
            return value_element(_decode(text))
        if kind == "k:":
            keys = _decode(text)
            if not isinstance(keys, dict):
                raise BadFields("a key is not an object")
            return key_element({name: whole(value) for name, value in keys.items()})
        if kind == "i:":
            if not text.isascii() or not text.isdigit() or len(text) > 9:
                raise BadFields("an index is not a number")
            return f"i:{int(text)}"
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadFields(str(error)) from None
    return None
