"""Checks that lists of type set and map have no duplicate items (`pkg/apiserver/schema/listtype/validation.go`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.node import SchemaNode
from hatchway.errors import Cause

__all__ = ["repeated_items"]

Json = Any

_encode = msgspec.json.Encoder(order="deterministic").encode


def repeated_items(value: Json, node: SchemaNode | None, path: str = "") -> list[Cause]:
    """Return an error for each duplicate item in a list. path: the field of the value; "" for a whole object."""
    return list(_repeated(value, node, path))


def _repeated(value: Json, node: SchemaNode | None, path: str) -> Iterator[Cause]:
    if node is None:
        return
    if isinstance(value, dict):
        for name, one in value.items():
            inner = node.properties.get(name)
            if inner is not None:
                yield from _repeated(one, inner, f"{path}.{name}" if path else name)
            elif node.rest is not None:
                yield from _repeated(one, node.rest, f"{path}[{name}]")
    elif isinstance(value, list):
        if node.list_type == "set":
            for index in _not_unique(value):
                yield v.duplicate(f"{path}[{index}]", value[index])
        elif node.list_type == "map":
            yield from _repeated_keys(value, node, path)
        if node.items is not None:
            for index, one in enumerate(value):
                yield from _repeated(one, node.items, f"{path}[{index}]")


def _repeated_keys(value: list[Json], node: SchemaNode, path: str) -> Iterator[Cause]:
    for index, one in enumerate(value):
        if one is not None and not isinstance(one, dict):
            yield v.invalid(f"{path}[{index}]", one, "must be an object for an array of list-type map")
            return
    keys = [{name: one[name] for name in node.list_keys if name in one} if one else {} for one in value]
    for index in _not_unique(keys):
        yield v.duplicate(f"{path}[{index}]", keys[index])


def _not_unique(items: Sequence[Json]) -> list[int]:
    """Return the index of the second item of each group of equal items. Further equal items are not reported."""
    seen: dict[bytes, int] = {}
    found = []
    for index, item in enumerate(items):
        key = _encode(item)
        times = seen[key] = seen.get(key, 0) + 1
        if times == 2:
            found.append(index)
    return found
