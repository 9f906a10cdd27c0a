"""Compares two states of an object and returns which fields were removed, changed and added.

Source: structured-merge-diff's `typed/compare.go`. In addition, equal parts are skipped as wholes, because a write
leaves most of an object unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.fields.atoms import Atom
from hatchway.cluster.api.fields.pathset import (
    MEMBER,
    PathSet,
    in_order,
    key_element,
    recursive_difference,
    value_element,
    whole,
)

__all__ = ["NO_CHANGE", "BadItem", "Comparison", "added_fields", "compare", "item_element"]

Json = Any
# Down to this level of nesting, parts are first compared as wholes. Only hostile clients send objects with many more
# levels. Comparing wholes at all of these levels would compare the same values many times.
_LEVELS = 16


class BadItem(ValueError):
    """Raised for an invalid item of a list, such as an item without a key. Messages are from `typed/helpers.go`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The fields that were removed, changed and added. Every field is in only one of the sets."""

    removed: PathSet
    modified: PathSet
    added: PathSet

    def without(self, fields: PathSet) -> Comparison:
        """Return the comparison without some fields and everything below them."""
        if not fields:
            return self
        return Comparison(
            recursive_difference(self.removed, fields),
            recursive_difference(self.modified, fields),
            recursive_difference(self.added, fields),
        )


NO_CHANGE = Comparison({}, {}, {})


def item_element(atom: Atom, item: Json) -> str:
    """Return the path element of an item of a list. Raises BadItem."""
    if not atom.keys:
        if isinstance(item, dict):
            raise BadItem("associative list without keys has an element that's a map type")
        if isinstance(item, list):
            raise BadItem("not supported: associative list with lists as elements")
        if item is None:
            raise BadItem("associative list without keys has an element that's an explicit null")
        return value_element(item)
    if item is None:
        raise BadItem("associative list with keys may not have a null element")
    if not isinstance(item, dict):
        raise BadItem("associative list with keys may not have non-map elements")
    found = {}
    for key in atom.keys:
        if key in item:
            value = item[key]
            found[key] = value if type(value) is not float else whole(value)
        elif key in atom.defaults:
            found[key] = atom.defaults[key]
    if not found:
        names = " ".join(f'"{key}"' for key in atom.keys)
        raise BadItem(
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    return key_element(found)


_CONTAINERS = frozenset((dict, list))


def added_fields(atom: Atom, value: Json) -> PathSet:
    """Return the fields of a new value: its own path, and the paths below it."""
    if isinstance(value, dict):
        if not value or not atom.is_map or atom.atomic:
            return MEMBER
        found: PathSet = {".": MEMBER}
        for name in sorted(value):
            one = value[name]
            # Most fields are scalars. This test is quicker than a recursive call.
            found["f:" + name] = added_fields(atom.field(name), one) if type(one) in _CONTAINERS else MEMBER
        return found
    if isinstance(value, list) and value and atom.is_list and not atom.atomic and atom.item is not None:
        found = {}
        repeated = set()
        for one in value:
            element = item_element(atom, one)
            if element in found:
                repeated.add(element)
            found[element] = added_fields(atom.item, one)
        for element in repeated:
            found[element] = MEMBER
        return in_order({".": MEMBER, **found})
    return MEMBER


def compare(atom: Atom, old: Json, new: Json) -> Comparison:
    """Compare two objects of a type. Raises BadItem."""
    removed, modified, added = _compare(atom, old, new, _LEVELS)
    return Comparison(removed or {}, modified or {}, added or {})


# The nodes of one path in the sets of removed, modified and added fields; None where a set does not have the path.
_Nodes = tuple[PathSet | None, PathSet | None, PathSet | None]
_SAME: _Nodes = (None, None, None)


def _is_granular(atom: Atom, value: Json) -> bool:
    return not atom.atomic and (
        (isinstance(value, dict) and atom.is_map)
        or (isinstance(value, list) and atom.is_list and atom.item is not None)
    )


def _compare(atom: Atom, old: Json, new: Json, levels: int) -> _Nodes:
    if old is new or (levels > 0 and old == new):
        return _SAME
    if not (_is_granular(atom, old) and old) and not (_is_granular(atom, new) and new):
        return (None, MEMBER, None) if old != new else _SAME
    if isinstance(old, list) or isinstance(new, list):
        if isinstance(old, list | None) and isinstance(new, list | None):
            return _compare_lists(atom, old or [], new or [], levels - 1)
    elif isinstance(old, dict | None) and isinstance(new, dict | None):
        return _compare_maps(atom, old or {}, new or {}, levels - 1)
    # The two values have different kinds, such as a map and a scalar. Every value except granular maps and granular
    # lists counts as a leaf.
    removed = _below(atom, old)
    added = _below(atom, new)
    leaf = removed is None or added is None
    return removed, MEMBER if leaf else None, added


def _below(atom: Atom, value: Json) -> PathSet | None:
    if not value or not _is_granular(atom, value):
        return None
    return {key: one for key, one in added_fields(atom, value).items() if key != "."}


def _compare_maps(atom: Atom, old: dict[str, Json], new: dict[str, Json], levels: int) -> _Nodes:
    removed: PathSet = {}
    modified: PathSet = {}
    added: PathSet = {}
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            removed[f"f:{name}"] = added_fields(atom.field(name), old[name])
        elif name not in old:
            added[f"f:{name}"] = added_fields(atom.field(name), new[name])
        else:
            before, after = old[name], new[name]
            if before is after:
                continue
            _note(f"f:{name}", _compare(atom.field(name), before, after, levels), removed, modified, added)
    return removed or None, modified or None, added or None


def _note(element: str, found: _Nodes, removed: PathSet, modified: PathSet, added: PathSet) -> None:
    one, two, three = found
    if one is not None:
        removed[element] = one
    if two is not None:
        modified[element] = two
    if three is not None:
        added[element] = three


def _by_element(atom: Atom, items: list[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for one in items:
        found.setdefault(item_element(atom, one), []).append(one)
    return found


def _compare_lists(atom: Atom, old: list[Json], new: list[Json], levels: int) -> _Nodes:
    assert atom.item is not None
    removed: PathSet = {}
    modified: PathSet = {}
    added: PathSet = {}
    before, after = _by_element(atom, old), _by_element(atom, new)
    for element in {**before, **after}:
        left, right = before.get(element, []), after.get(element, [])
        if len(left) > 1 and len(right) > 1:
            # Both lists have several items with this key. All items with the key are compared as one value.
            if left != right:
                modified[element] = MEMBER
        elif len(left) > 1:
            removed[element] = MEMBER
            if right:
                added[element] = added_fields(atom.item, right[0])
        elif len(right) > 1:
            added[element] = MEMBER
            if left:
                removed[element] = added_fields(atom.item, left[0])
        elif not right:
            removed[element] = added_fields(atom.item, left[0])
        elif not left:
            added[element] = added_fields(atom.item, right[0])
        else:
            _note(element, _compare(atom.item, left[0], right[0], levels), removed, modified, added)
    return in_order(removed) or None, in_order(modified) or None, in_order(added) or None
