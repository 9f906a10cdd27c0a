"""Custom types in CEL rules: the declared types for a schema, and the CEL values for an object's values.

From apiserver's `pkg/cel/common/schemas.go` and `valuesunstructured.go`, apiextensions-apiserver's
`pkg/apiserver/schema/cel/model`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hatchway.cluster.api.cel.celtypes import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    CelType,
    object_type,
)
from hatchway.cluster.api.cel.names import escape
from hatchway.cluster.api.cel.schematypes import MAX_REQUEST, DeclaredType, list_type, map_type
from hatchway.cluster.api.cel.values import EvaluationError, Value, parse_duration, parse_timestamp
from hatchway.cluster.api.registry.custom.keyedlists import KeyedList, SetList
from hatchway.cluster.api.registry.custom.node import MISSING, SchemaNode

__all__ = ["bind_value", "declared_type", "with_metadata"]

Json = Any

# The longest `name` and `generateName` of an object, in characters.
_NAME, _GENERATED = 253, 252
_PLAIN_FORMATS = ("byte", "duration", "date", "date-time")
# String formats whose values have another type in rules: the type, the size of the smallest value (bytes of JSON), and
# the length of the largest value (characters).
_FORMATS: Mapping[str, tuple[CelType, int, int]] = {
    "duration": (DURATION, 3, 32),
    "date": (TIMESTAMP, 12, 12),
    "date-time": (TIMESTAMP, 21, 32),
}
_TEXT = MAX_REQUEST - 2


def with_metadata(node: SchemaNode) -> SchemaNode:
    """Return the schema of a whole object: with apiVersion, kind, metadata.name and metadata.generateName."""
    text = SchemaNode(source={}, type="string", types=("string",), properties={})
    metadata = node.properties.get("metadata")
    inner = metadata.properties if metadata is not None else {}

    def named(key: str, most: int) -> SchemaNode:
        found = inner.get(key)
        limit = found.max_length if found is not None else None
        return replace(text, max_length=most if limit is None else min(limit, most))

    names = {"name": named("name", _NAME), "generateName": named("generateName", _GENERATED)}
    meta = SchemaNode(source={}, type="object", types=("object",), properties=names)
    return replace(node, properties={**node.properties, "kind": text, "apiVersion": text, "metadata": meta})


def declared_type(node: SchemaNode, *, is_whole: bool) -> DeclaredType | None:
    """Return the CEL type of a schema's values; None for values that rules cannot access.

    is_whole: the value is an object with apiVersion, kind and metadata.
    """
    if node.int_or_string:
        return DeclaredType(DYN, _TEXT if node.max_length is None else max(node.max_length, 0) * 4, 1)
    if is_whole:
        node = with_metadata(node)
    match node.type:
        case "array":
            element = declared_type(node.items, is_whole=node.items.embedded) if node.items is not None else None
            if element is None:
                return None
            most = (MAX_REQUEST - 2) // (element.least_json + 1)
            return list_type(element, most if node.max_items is None else max(node.max_items, 0))
        case "object":
            return _object(node)
        case "string":
            return _text(node)
        case "boolean":
            return DeclaredType(BOOL, 0, 4)
        case "number":
            return DeclaredType(DOUBLE, 0, 1)
        case "integer":
            return DeclaredType(INT, 0, 1)
    return None


def _object(node: SchemaNode) -> DeclaredType | None:
    if node.rest is not None:
        element = declared_type(node.rest, is_whole=node.rest.embedded)
        if element is None:
            return None
        most = (MAX_REQUEST - 2) // (element.least_json + 6)
        most = most if node.max_properties is None else max(node.max_properties, 0)
        return map_type(DeclaredType(STRING, 0, 2), element, most)
    fields: dict[str, DeclaredType] = {}
    least = 2
    for name, inner in node.properties.items():
        found = declared_type(inner, is_whole=inner.embedded)
        if found is None:
            continue
        if (escaped := escape(name)) is not None:
            fields[escaped] = found
        if name in node.required and (inner.default is MISSING or inner.default is None):
            least += len(name) + found.least_json + 4
    return DeclaredType(object_type("object"), 0, least, fields)


def _text(node: SchemaNode) -> DeclaredType:
    if node.source.get("format") == "byte":
        return DeclaredType(BYTES, _TEXT if node.max_length is None else max(node.max_length, 0), 2)
    known = _FORMATS.get(str(node.source.get("format") or ""))
    if known is not None:
        kind, least, longest = known
        return DeclaredType(kind, longest, least)
    if node.max_length is not None:
        most = max(node.max_length, 0) * 4
    elif node.enum:
        most = max((len(one.encode()) for one in node.enum if isinstance(one, str)), default=0)
    else:
        most = _TEXT
    return DeclaredType(STRING, most, 2)


# Values


class _Faulty(dict[str, Value]):
    """An object in which some values do not have the schema's type. faults: the error for each such field."""

    def __init__(self, fields: dict[str, Value]) -> None:
        super().__init__(fields)
        self.faults: dict[str, str] = dict(fields.faults) if isinstance(fields, _Faulty) else {}

    def __getitem__(self, key: str) -> Value:
        if key in self.faults:
            raise EvaluationError(self.faults[key])
        return super().__getitem__(key)


def bind_value(value: Json, node: SchemaNode, *, is_whole: bool = False) -> Value:
    """Return the CEL value that rules get for a JSON value.

    Field names are escaped. Times, bytes, doubles, and lists of type set and map become values of their CEL types.

    is_whole: the value is an object with apiVersion, kind and metadata.
    """
    if value is None or node.int_or_string:
        return value
    if isinstance(value, dict):
        if is_whole:
            node = with_metadata(node)
        if node.rest is not None and not node.properties:
            rest = node.rest
            return {key: bind_value(one, rest, is_whole=rest.embedded) for key, one in value.items()}
        found: dict[str, Value] = {}
        for name, one in value.items():
            inner = node.properties.get(name)
            escaped = escape(name) if inner is not None else None
            if inner is None or escaped is None:
                continue
            if inner.type == "integer" and isinstance(one, float) and not inner.int_or_string:
                found = _Faulty(found)
                found.faults[escaped] = "invalid data, expected int, got float64"
            found[escaped] = bind_value(one, inner, is_whole=inner.embedded)
        return found
    if isinstance(value, list):
        items = node.items
        if items is None:
            return value
        bound = [bind_value(one, items, is_whole=items.embedded) for one in value]
        if node.list_type == "map":
            return KeyedList(bound, tuple(key for name in node.list_keys if (key := escape(name)) is not None))
        return SetList(bound) if node.list_type == "set" else bound
    if node.type == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and node.source.get("format") in _PLAIN_FORMATS:
        return _bind_text(value, str(node.source["format"]))
    return value


def _bind_text(value: str, format: str) -> Value:
    try:
        if format == "byte":
            return base64.b64decode(value, validate=True)
        if format == "duration":
            return parse_duration(value)
        return parse_timestamp(f"{value}T00:00:00Z" if format == "date" else value)
    except (ValueError, binascii.Error):
        # The text does not have the format. The check of formats rejects a new text. An old text may have been stored
        # before the schema had the format.
        return value
