"""Other shapes of an answer: `as=Table` (what `kubectl get` prints) and `as=PartialObjectMetadata(List)`.

The columns and cells of each type are in `printers.py`. Wide columns are always there, with priority 1: the client
chooses.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal

from hatchway.cluster.api.discovery import ResourceRow
from hatchway.cluster.api.printers import conditions, printer_of
from hatchway.errors import bad_request

__all__ = ["META_V1", "IncludeObject", "include_object", "partial_object", "partial_object_list", "to_table"]

Json = dict[str, Any]
IncludeObject = Literal["None", "Metadata", "Object"]

META_V1 = "meta.k8s.io/v1"


def include_object(value: str) -> IncludeObject:
    """The query parameter `includeObject`; "" is the default, Metadata. Raises ApiError 400."""
    match value:
        case "" | "Metadata":
            return "Metadata"
        case "None":
            return "None"
        case "Object":
            return "Object"
    raise bad_request(f"unrecognized includeObject value: {value!r}, must be None, Metadata or Object")


def to_table(
    row: ResourceRow,
    objects: Iterable[Json],
    *,
    include_object: IncludeObject = "Metadata",
    list_meta: Json | None = None,
    headers: bool = True,
    now: float | None = None,
) -> Json:
    """A Table (meta.k8s.io/v1) of these objects of the registry row's type.

    list_meta: the list's metadata; for one object (a GET, a watch event) None takes the object's resourceVersion.
    headers: False leaves the column definitions out, as in all but the first event of a watch.
    now: the time to count ages from, in seconds since the epoch.
    """
    printer = printer_of(row.group, row.kind)
    clock = time.time() if now is None else now
    rows: list[Json] = []
    version = ""
    for obj in objects:
        found: Json = {"cells": printer.cells(obj, clock)}
        about = conditions(row.kind, obj)
        if about:
            found["conditions"] = about
        found["object"] = _included(row, obj, include_object)
        rows.append(found)
        version = obj.get("metadata", {}).get("resourceVersion", "")
    if list_meta is None:
        list_meta = {"resourceVersion": version} if len(rows) == 1 and version else {}
    return {
        "kind": "Table",
        "apiVersion": META_V1,
        "metadata": list_meta,
        "columnDefinitions": printer.definitions if headers else [],
        "rows": rows,
    }


def _included(row: ResourceRow, obj: Json, include: IncludeObject) -> Json | None:
    if include == "None":
        return None
    if include == "Metadata":
        return partial_object(obj)
    if "kind" in obj:
        return obj
    return {"kind": row.kind, "apiVersion": f"{row.group}/{row.version}" if row.group else row.version, **obj}


def partial_object(obj: Json) -> Json:
    """The object reduced to its metadata (PartialObjectMetadata)."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META_V1, "metadata": obj.get("metadata", {})}


def partial_object_list(objects: Iterable[Json], list_meta: Json) -> Json:
    """A list reduced to the metadata of its items (PartialObjectMetadataList)."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": META_V1,
        "metadata": list_meta,
        "items": [partial_object(obj) for obj in objects],
    }
