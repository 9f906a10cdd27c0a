"""Converts answers to other shapes: `as=Table` (what `kubectl get` prints) and `as=PartialObjectMetadata(List)`.

The columns and cells of each type are in `registry/printers/`. Wide columns are always included, with priority 1: the
client chooses the columns that it shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

from hatchway.cluster.api.registry.resource import Resource
from hatchway.errors import bad_request

__all__ = [
    "META_V1",
    "IncludeObject",
    "include_object",
    "partial_object",
    "partial_object_list",
    "row_maker",
    "table_head",
    "to_table",
]

Json = dict[str, Any]
IncludeObject = Literal["None", "Metadata", "Object"]

META_V1 = "meta.k8s.io/v1"


def include_object(value: str) -> IncludeObject:
    """Return the query parameter `includeObject`; "" is the default, Metadata. Raises ApiError 400."""
    match value:
        case "" | "Metadata":
            return "Metadata"
        case "None":
            return "None"
        case "Object":
            return "Object"
    raise bad_request(f"unrecognized includeObject value: {value!r}, must be None, Metadata or Object")


def to_table(
    row: Resource,
    objects: Iterable[Json],
    *,
    include_object: IncludeObject = "Metadata",
    list_meta: Json | None = None,
    headers: bool = True,
    now: float | None = None,
) -> Json:
    """Return a Table (meta.k8s.io/v1) of these objects of the registry row's type.

    list_meta: the list's metadata; None for one object (a GET, a watch event), whose resourceVersion the table gets.
    headers: False to leave out the column definitions, as in all events of a watch except the first.
    now: the current time in POSIX seconds, for ages.
    """
    show = row_maker(row, include_object=include_object, now=now)
    rows: list[Json] = []
    version = ""
    for obj in objects:
        rows.append(show(obj))
        version = obj.get("metadata", {}).get("resourceVersion", "")
    if list_meta is None:
        list_meta = {"resourceVersion": version} if len(rows) == 1 and version else {}
    return {**table_head(row, list_meta, headers=headers), "rows": rows}


def table_head(row: Resource, list_meta: Json, *, headers: bool = True) -> Json:
    """Return a Table without its rows."""
    return {
        "kind": "Table",
        "apiVersion": META_V1,
        "metadata": list_meta,
        "columnDefinitions": row.printer.definitions if headers else [],
    }


def row_maker(
    row: Resource, *, include_object: IncludeObject = "Metadata", now: float | None = None
) -> Callable[[Json], Json]:
    """Return a function that makes a Table's row from an object. The parameters are those of `to_table`."""
    printer = row.printer
    clock = time.time() if now is None else now

    def make(obj: Json) -> Json:
        found: Json = {"cells": printer.cells(obj, clock)}
        about = printer.conditions(obj)
        if about:
            found["conditions"] = about
        found["object"] = _included(row, obj, include_object)
        return found

    return make


def _included(row: Resource, obj: Json, include: IncludeObject) -> Json | None:
    if include == "None":
        return None
    if include == "Metadata":
        return partial_object(obj)
    if "kind" in obj:
        return obj
    return {"kind": row.kind, "apiVersion": f"{row.group}/{row.version}" if row.group else row.version, **obj}


def partial_object(obj: Json) -> Json:
    """Return the object reduced to its metadata (PartialObjectMetadata)."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META_V1, "metadata": obj.get("metadata", {})}


def partial_object_list(objects: Iterable[Json], list_meta: Json) -> Json:
    """Return a list reduced to the metadata of its items (PartialObjectMetadataList)."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": META_V1,
        "metadata": list_meta,
        "items": [partial_object(obj) for obj in objects],
    }
