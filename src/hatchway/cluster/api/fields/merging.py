"""Checks an applied configuration, finds its fields, merges it into an object, and removes fields from an object.

Source: structured-merge-diff's `typed/{validate,tofieldset,merge,remove,reconcile_schema}.go`. The functions never
change their arguments. Results may share parts with arguments.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hatchway.cluster.api.fields.atoms import DEDUCED, Atom
from hatchway.cluster.api.fields.comparison import BadItem, item_element
from hatchway.cluster.api.fields.pathset import (
    MEMBER,
    PathSet,
    in_order,
    is_member,
    show,
    without_self,
)

__all__ = ["errors_in", "field_set", "merge", "named_fields", "reconcile", "remove"]

Json = Any
_MOST_ERRORS = 100
_encode = msgspec.json.Encoder().encode


# Checking


def errors_in(atom: Atom, value: Json) -> list[str]:
    """Return the errors in an applied object, each as `PATH: MESSAGE`."""
    found: list[str] = []
    _check(atom, value, "", found)
    return found


def _check(atom: Atom, value: Json, at: str, found: list[str]) -> None:
    if len(found) >= _MOST_ERRORS or value is None:
        return
    if isinstance(value, dict) and atom.is_map:
        for name, one in value.items():
            inner = atom.fields.get(name) or atom.element
            if inner is None:
                found.append(f"{at}.{name}: field not declared in schema")
            else:
                _check(inner, one, f"{at}.{name}", found)
    elif isinstance(value, list) and atom.is_list:
        _check_list(atom, value, at, found)
    else:
        why = _mismatch(atom, value)
        if why:
            found.append(f"{at}: {why}" if at else why)


def _check_list(atom: Atom, value: list[Json], at: str, found: list[str]) -> None:
    item = atom.item or DEDUCED
    seen = set()
    for index, one in enumerate(value):
        where = f"[{index}]"
        if not atom.atomic and atom.item is not None:
            try:
                element = item_element(atom, one)
            except BadItem as error:
                found.append(f"{at}: element {index}: {error}")
                return
            where = show((element,))
            if element in seen:
                found.append(f"{at}: duplicate entries for key {where}")
            seen.add(element)
        _check(item, one, at + where, found)


def _mismatch(atom: Atom, value: Json) -> str:
    kind = atom.scalar
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if atom.is_map and not kind:
        return f"expected map, got {_shown(value)}"
    if atom.is_list and not kind:
        return f"expected list, got {_shown(value)}"
    if kind == "numeric" and not is_number:
        return f"expected numeric (int or float), got {_go_type(value)}"
    if kind == "string" and not isinstance(value, str):
        return f"expected string, got {_shown(value)}"
    if kind == "boolean" and not isinstance(value, bool):
        return f"expected boolean, got {_shown(value)}"
    if kind == "untyped" and isinstance(value, dict | list):
        return f"expected any scalar, got {_shown(value)}"
    return ""


def _shown(value: Json) -> str:
    text = _encode(value).decode()
    return f"&{{{text[:200]}}}" if not isinstance(value, dict | list) else text[:200]


def _go_type(value: Json) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"


# Fields


def field_set(atom: Atom, value: Json) -> PathSet:
    """Return the fields of an applied object: its leaves, and the items of its lists. Raises BadItem."""
    return _fields_below(atom, value) or {}


def _fields_below(atom: Atom, value: Json) -> PathSet | None:
    """Return the fields below a value; MEMBER when the value itself is a field; None when there are no fields."""
    if isinstance(value, dict) and atom.is_map:
        if atom.atomic:
            return MEMBER
        found: PathSet = {}
        for name in sorted(value):
            one = value[name]
            inner = _fields_below(atom.field(name), one)
            if one is None or one == {} or name not in atom.fields:
                inner = {".": MEMBER, **inner} if inner else MEMBER
            if inner is not None:
                found[f"f:{name}"] = inner
        return found or None
    if isinstance(value, list) and atom.is_list:
        if atom.atomic or atom.item is None:
            return MEMBER
        found, repeated = {}, set()
        for one in value:
            element = item_element(atom, one)
            if element in found:
                repeated.add(element)
            inner = _fields_below(atom.item, one)
            found[element] = {".": MEMBER, **inner} if inner else MEMBER
        for element in repeated:
            found[element] = MEMBER
        return in_order(found) or None
    if value is None and not atom.scalar and not atom.atomic:
        return None
    return MEMBER


# Merging


class _Nothing:
    """The type of _NOTHING, which stands for a missing value. (None stands for null.)"""


_NOTHING: Any = _Nothing()


def merge(atom: Atom, live: Json, applied: Json) -> Json:
    """Return an object with an applied configuration merged in. Raises BadItem."""
    return _merged(atom, live, applied)


def _merged(atom: Atom, live: Json, applied: Json) -> Json:
    """Return the merged value; _NOTHING when there is none. Each of the two values may also be _NOTHING."""
    if applied is _NOTHING:
        return live
    kind = live if applied is None else applied
    if isinstance(kind, dict) and atom.is_map and not atom.atomic:
        left = live if isinstance(live, dict) else {}
        right = applied if isinstance(applied, dict) else {}
        if not left and not right:
            return applied
        return _merged_maps(atom, left, right)
    if isinstance(kind, list) and atom.is_list and not atom.atomic and atom.item is not None:
        before = live if isinstance(live, list) else []
        after = applied if isinstance(applied, list) else []
        if not before and not after:
            return applied
        return _merged_lists(atom, before, after) or _NOTHING
    return applied


def _merged_maps(atom: Atom, live: dict[str, Json], applied: dict[str, Json]) -> Json:
    found = dict(live)
    for name, one in applied.items():
        merged = _merged(atom.field(name), live.get(name, _NOTHING), one)
        if merged is _NOTHING:
            found.pop(name, None)
        else:
            found[name] = merged
    return found or _NOTHING


def _merged_lists(atom: Atom, live: list[Json], applied: list[Json]) -> list[Json]:
    """Merge two lists of items with keys. Applied items have the order of the applied list (`visitListItems`)."""
    assert atom.item is not None
    right = [item_element(atom, one) for one in applied]
    of_right = dict(zip(right, applied, strict=True))
    if len(of_right) < len(right):
        raise BadItem("duplicate entries for key")
    left = [item_element(atom, one) for one in live]
    of_left: dict[str, Json] = {}
    for element, one in zip(left, live, strict=True):
        # If several live items have the same key, the applied item replaces them without a merge.
        of_left[element] = None if element in of_left else one
    shared = [element for element in right if element in of_left]
    shared.reverse()
    wanted = shared.pop() if shared else None
    found: list[Json] = []
    done: set[str] = set()

    def take(element: str) -> None:
        done.add(element)
        merged = _merged(atom.item or DEDUCED, of_left.get(element, _NOTHING), of_right[element])
        if merged is not _NOTHING:
            found.append(merged)

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            element = left[i]
            if element == right[j]:
                take(element)
                i += 1
                j += 1
                wanted = shared.pop() if shared else None
                continue
            if element in of_right and wanted is not None and wanted != element:
                # Both lists have this item, but another item comes first in the order of the applied list.
                i += 1
                continue
        if i < len(left):
            element = left[i]
            if element not in of_right:
                found.append(live[i])
                i += 1
                continue
            if element in done:
                i += 1
        if j < len(right):
            element = right[j]
            take(element)
            j += 1
            if wanted == element:
                wanted = shared.pop() if shared else None
    return found


# Removing


def remove(atom: Atom, value: Json, fields: PathSet) -> Json:
    """Return an object without some fields and items. Maps and lists that become empty are replaced by null."""
    if not fields:
        return value
    if isinstance(value, dict) and atom.is_map:
        return _without_fields(atom, value, fields)
    if isinstance(value, list) and atom.is_list:
        return _without_items(atom, value, fields)
    return None if (isinstance(value, dict | list) or atom.is_map or atom.is_list) and not atom.scalar else value


def _without_fields(atom: Atom, value: dict[str, Json], fields: PathSet) -> Json:
    if atom.atomic:
        return None
    found = {}
    for name, one in value.items():
        node = fields.get(f"f:{name}")
        if node is None:
            found[name] = one
        elif not is_member(node):
            found[name] = remove(atom.field(name), one, without_self(node))
    return found or None


def _without_items(atom: Atom, value: list[Json], fields: PathSet) -> Json:
    if atom.atomic or atom.item is None:
        return None
    found = []
    for one in value:
        node = fields.get(item_element(atom, one))
        if node is None:
            found.append(one)
        elif not is_member(node):
            found.append(remove(atom.item, one, without_self(node)))
    return found or None


def named_fields(atom: Atom | None, fields: PathSet) -> PathSet:
    """Return the set with all declared fields that contain its members (`EnsureNamedFieldsAreMembers`)."""
    found: PathSet = {}
    for key, node in fields.items():
        if key == ".":
            continue
        inner: Atom | None = None
        named = False
        if key[0] == "f" and atom is not None and atom.is_map:
            name = key[2:]
            named = name in atom.fields
            inner = atom.fields.get(name) or atom.element
        elif key[0] == "k" and atom is not None and atom.is_list:
            inner = atom.item
        below = named_fields(inner, without_self(node))
        if not below:
            found[key] = MEMBER
        else:
            found[key] = {".": MEMBER, **below} if named or is_member(node) else below
    return found


def reconcile(atom: Atom, fields: PathSet) -> PathSet:
    """Return a set of fields that fits the type. A map or list that has become atomic replaces the fields below it."""
    changed: PathSet = {}
    for key, node in fields.items():
        below = without_self(node)
        if key == "." or not below:
            continue
        inner = atom.field(key[2:]) if key[0] == "f" and atom.is_map else atom.item
        if inner is None or inner is DEDUCED:
            continue
        new = MEMBER if inner.atomic else reconcile(inner, node)
        if new is not node:
            changed[key] = new
    return {**fields, **changed} if changed else fields
