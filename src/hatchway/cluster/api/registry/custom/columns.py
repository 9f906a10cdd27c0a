"""Columns of `kubectl get` that a custom type defines (`pkg/registry/customresource/tableconvertor`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from hatchway.cluster.api.registry.custom.jsonpath import JSONPath, JSONPathError
from hatchway.cluster.api.registry.printers.base import AGE, NAME, Column, Printer, name_of
from hatchway.cluster.api.registry.printers.humanize import age, seconds

__all__ = ["column_printer"]

Json = Any

_log = logging.getLogger(__name__)
_AGE = {"name": "Age", "type": "date", "description": AGE.description, "jsonPath": ".metadata.creationTimestamp"}


def column_printer(columns: Iterable[Mapping[str, Json]]) -> Printer:
    """Return the printer for a version's `additionalPrinterColumns`. Without columns, it shows the name and the age."""
    paths: list[tuple[str, JSONPath]] = []
    shown = [NAME]
    for one in list(columns) or [_AGE]:
        path, kind = one["jsonPath"], one["type"]
        try:
            paths.append((kind, JSONPath(path)))
        except JSONPathError as error:
            # As in Kubernetes, only the columns before the invalid column are shown.
            _log.warning("column %s of a custom type: %s", one["name"], error)
            break
        text = one.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
        shown.append(Column(one["name"], kind, one.get("format") or "", one.get("priority") or 0, text))

    def cells(obj: Json, now: float) -> list[Json]:
        return [name_of(obj), *(_cell(kind, path.first(obj), now) for kind, path in paths)]

    return Printer(cells, *shown)


def _cell(kind: str, value: Json, now: float) -> Json:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return _text(value)
    if kind == "integer":
        return int(value) if number else None
    if kind == "number":
        return value if number else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    # A date is shown as an age.
    if not isinstance(value, str):
        return None
    return age(value, now) if seconds(value) is not None else "<invalid>"


def _text(value: Json) -> str:
    """Return a value as JSONPath prints it: strings unchanged, objects and lists as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)
