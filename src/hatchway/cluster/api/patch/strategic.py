"""Strategic merge patch: a merge patch that can merge lists (apimachinery's `util/strategicpatch/patch.go`).

Lists whose strategy is `merge` are merged by their merge key; if they contain scalars, they are merged as sets. All
other lists are replaced. Directives in a patch:

    $patch: replace | delete         in a map: replace the map by the patch, or make it empty; in a list's item: replace
                                     the list by the patch's other items, or delete the item with this merge key
    $deleteFromPrimitiveList/FIELD   scalars to remove from a list
    $setElementOrder/FIELD           the order of the list's items; items that it does not name keep their position
    $retainKeys                      in a map: remove every key that is not named

Arguments are never changed. Lists are indexed by merge key, so the work is linear in their size.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from hatchway.cluster.api.registry.schema.table import Field, TypeDefinition, load

__all__ = ["BadPatch", "merge_map"]

Json = Any
Map = dict[str, Any]
# The identity of a list's item: a type, so that 1 and true differ; and the value of the merge key, or a scalar item.
ItemIdentity = tuple[type, Hashable]

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList"
_ORDER = "$setElementOrder"


class BadPatch(Exception):
    """The patch is malformed. The message is that of `util/mergepatch/errors.go`, if there is one."""


def merge_map(original: Map, patch: Map, type_: TypeDefinition | None) -> Map:
    """Return `original` with `patch` merged in.

    type_: the type of `original` and `patch`; None inside maps whose keys are not fields.

    Raises BadPatch.
    """
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadPatch(f"unknown patch type: {directive} in map")
    merged, patch = dict(original), {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if _RETAIN_KEYS in patch:
        merged = _retain(merged, patch, patch.pop(_RETAIN_KEYS))
    for key in [key for key in patch if key.startswith(_ORDER)]:
        _order(merged, patch, key, type_)
    for key, value in patch.items():
        deleting = key.startswith(_DELETE_FROM)
        name = _field_name(key, "primitive list") if deleting else key
        if deleting:
            if isinstance(merged.get(name), list) and isinstance(value, list):
                gone = {_identity(one, "") for one in value}
                merged[name] = [one for one in merged[name] if _identity(one, "") not in gone]
        elif value is None:
            merged.pop(name, None)
        else:
            _set(merged, name, value, type_)
    return merged


def _set(merged: Map, name: str, value: Json, type_: TypeDefinition | None) -> None:
    """Merge one non-null value of a patch into `merged[name]`."""
    current = merged.get(name)
    field = type_.fields.get(name) if type_ is not None else None
    if isinstance(current, dict) and isinstance(value, dict):
        if _strategy(field) == "replace":
            merged[name] = value
        else:
            inside = field if field is not None and not field.container else None
            merged[name] = merge_map(current, value, _type_of(inside))
    elif isinstance(current, list) and isinstance(value, list):
        merged[name] = _merge_list(current, value, field)
    else:
        kept = _plain(value)
        if kept is _GONE and (isinstance(current, list) or (field is not None and field.container == "list")):
            raise BadPatch(f"{name} is a list: a map cannot be merged into it")
        if kept is _GONE:
            merged.pop(name, None)
        else:
            merged[name] = kept


def _type_of(field: Field | None) -> TypeDefinition | None:
    return load().definitions[field.ref] if field is not None and field.kind == "message" else None


def _strategy(field: Field | None) -> str:
    if field is None:
        return ""
    strategies = [one for one in field.strategy.split(",") if one != "retainKeys"]
    return strategies[0] if strategies else ""


def _field_name(key: str, what: str) -> str:
    name = key.partition("/")[2]
    if not name:
        raise BadPatch(f"invalid patch format of {what}" + (" list" if what == "setElementOrder" else ""))
    return name


def _retain(merged: Map, patch: Map, keys: Json) -> Map:
    if not isinstance(keys, list):
        raise BadPatch("invalid patch format of retainKeys")
    named = {key for key in keys if isinstance(key, str)}
    for key, value in patch.items():
        if value is not None and key not in named and not key.startswith((_DELETE_FROM, _ORDER)):
            raise BadPatch("invalid patch format of retainKeys")
    return {key: value for key, value in merged.items() if key in named}


_GONE = object()


def _plain(value: Json) -> Json:
    """Return a value that a patch adds, without nulls and directives; _GONE for a map or item that is a directive."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return _GONE
        kept = {}
        for key, one in value.items():
            if one is None or key == _RETAIN_KEYS or key.startswith((_DELETE_FROM, _ORDER)):
                continue
            found = _plain(one)
            if found is not _GONE:
                kept[key] = found
        return kept
    if isinstance(value, list):
        return [found for found in map(_plain, value) if found is not _GONE]
    return value


def _identity(item: Json, merge_key: str) -> ItemIdentity:
    if merge_key:
        if not isinstance(item, dict):
            raise BadPatch("expected a map, but received something else in a list that is merged by " + merge_key)
        if merge_key not in item:
            raise BadPatch(f"map: {item} does not contain declared merge key: {merge_key}")
        item = item[merge_key]
    if isinstance(item, dict | list):
        raise BadPatch("lists of lists are not supported")
    return type(item), item


def _positions(items: list[Any], merge_key: str) -> dict[ItemIdentity, int]:
    """Return the first position of each item."""
    found: dict[ItemIdentity, int] = {}
    for index, item in enumerate(items):
        found.setdefault(_identity(item, merge_key), index)
    return found


def _merge_list(original: list[Any], patch: list[Any], field: Field | None) -> list[Any]:
    if _strategy(field) != "merge" or field is None:
        return patch
    if not original and not patch:
        return original
    first = (original or patch)[0]
    if isinstance(first, list):
        raise BadPatch("lists of lists are not supported")
    maps = isinstance(first, dict)
    if any(isinstance(one, dict) is not maps for items in (original, patch) for one in items):
        raise BadPatch("list element types are not identical")
    merge_key = field.merge_key
    if not maps:
        merged = _first_of_each([*original, *patch])
        return _arrange(merged, patch, original, "")
    if not merge_key:
        raise BadPatch(f"cannot merge lists without merge key for {field.name}")
    kept, plain = _special_items(original, patch, merge_key)
    merged = _merge_items(kept, plain, merge_key, _type_of(field))
    return _arrange(merged, plain, kept, merge_key)


def _first_of_each(items: list[Any]) -> list[Any]:
    found: dict[ItemIdentity, Any] = {}
    for item in items:
        found.setdefault(_identity(item, ""), item)
    return list(found.values())


def _special_items(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Apply the items that are directives. Return the remaining items of `original` and of `patch`."""
    plain: list[Any] = []
    gone: set[ItemIdentity] = set()
    replace = False
    for item in patch:
        directive = item.get(_DIRECTIVE)
        if directive is None:
            plain.append(item)
        elif directive == "delete":
            gone.add(_identity(item, merge_key))
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise BadPatch("merging lists cannot yet be specified in the patch")
        else:
            raise BadPatch(f"unknown patch type: {directive} in map: {item}")
    if replace:
        return plain, []
    if gone:
        original = [one for one in original if merge_key not in one or _identity(one, merge_key) not in gone]
    return original, plain


def _merge_items(original: list[Any], patch: list[Any], merge_key: str, type_: TypeDefinition | None) -> list[Any]:
    merged = list(original)
    positions: dict[ItemIdentity, int] = {}
    for index, item in enumerate(merged):
        if merge_key in item:
            positions.setdefault(_identity(item, merge_key), index)
    for item in patch:
        identity = _identity(item, merge_key)
        at = positions.get(identity)
        if at is None:
            positions[identity] = len(merged)
            merged.append(_plain(item))
        else:
            merged[at] = merge_map(merged[at], item, type_)
    return merged


def _arrange(merged: list[Any], order: list[Any], server: list[Any], merge_key: str) -> list[Any]:
    """Return the items sorted: items of `order` have that order, and all other items keep the server's order.

    Between an item of `order` and another item, the server's order decides.
    """
    wanted, live = _positions(order, merge_key), _positions(server, merge_key)
    named = [one for one in merged if _identity(one, merge_key) in wanted]
    named.sort(key=lambda one: wanted[_identity(one, merge_key)])
    others = [one for one in merged if _identity(one, merge_key) not in wanted]
    result: list[Any] = []
    at = 0
    for item in named:
        place = live.get(_identity(item, merge_key))
        while at < len(others):
            other = live.get(_identity(others[at], merge_key))
            if place is None or other is None or other >= place:
                break
            result.append(others[at])
            at += 1
        result.append(item)
    return result + others[at:]


def _order(merged: Map, patch: Map, key: str, type_: TypeDefinition | None) -> None:
    """Apply one `$setElementOrder/FIELD` together with the patch of this list. Remove both from `patch`."""
    order, name = patch.pop(key), _field_name(key, "setElementOrder")
    if not isinstance(order, list):
        raise BadPatch("invalid patch format of setElementOrder list")
    field = type_.fields.get(name) if type_ is not None else None
    if field is None or field.container != "list":
        raise BadPatch(f'unable to find api field in struct {type_.go if type_ else "map"} for the json field "{name}"')
    current, items = merged.get(name), patch.get(name)
    for one in (current, items):
        if one is not None and not isinstance(one, list):
            raise BadPatch("invalid patch format of setElementOrder list")
    merge_key = field.merge_key
    if items:
        plain = [one for one in items if not (isinstance(one, dict) and _DIRECTIVE in one)]
        _check_order([_identity(one, merge_key) for one in plain], [_identity(one, merge_key) for one in order])
    if items is None:
        if current is None or name in patch:
            # There is nothing to order; a null in the patch will delete the list.
            return
        result = current
    else:
        del patch[name]
        result = _plain(items) if current is None else _merge_list(current, items, field)
    merged[name] = _arrange(result, order, current or [], merge_key)


def _check_order(items: list[ItemIdentity], order: list[ItemIdentity]) -> None:
    """Check that the patch's items are among the items of the order, in the same relative order."""
    remaining = iter(order)
    if order and not all(item in remaining for item in items):
        raise BadPatch(f"The order in patch list doesn't match {_ORDER} list")
