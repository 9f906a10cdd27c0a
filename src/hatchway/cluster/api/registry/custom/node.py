"""A custom type's schema as a tree of nodes (apiextensions-apiserver `pkg/apiserver/schema/structural.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hatchway.cluster.api.registry.custom.formats import FORMATS, FormatCheck
from hatchway.cluster.api.registry.custom.patterns import StringPattern, compile_pattern

__all__ = ["META_FIELDS", "MISSING", "SchemaNode", "parse_schema", "scalar"]

Json = Any

# The fields that every object has. Their types are fixed, and a schema cannot change them.
META_FIELDS = frozenset(("apiVersion", "kind", "metadata"))
# Means "no default". None cannot mean this, because null is a possible default.
MISSING: Any = object()
# The formats of numbers that are checked; other formats are ignored.
_NUMBER_FORMATS = {"integer": frozenset(("int32", "int64")), "number": frozenset(("float", "double"))}


@dataclass(slots=True, eq=False)
class SchemaNode:
    """A node of the tree: one schema with the schemas inside it.

    Attributes:
        type: string, number, integer, boolean, array, object, or "" for no type.
        types: the types that a value may have; () allows all types. An int-or-string has two types.
        default: the default; MISSING when there is none.
        scalars: the keys (from `scalar`) of the values of `enum` that are neither objects nor lists.
        default_size: bytes of JSON of the default, 0 without one.
        additional: the schema of properties that have no schema of their own; True when such properties may have any
            value; None when such properties are not allowed.
        check_format: checks a string of the node's format; None for formats that are ignored.
        preserve: properties without a schema are kept (x-kubernetes-preserve-unknown-fields).
        embedded: the value is an object with apiVersion, kind and metadata (x-kubernetes-embedded-resource).
        list_type, map_type: atomic, set, map, granular, or "". list_keys: the keys of a list of type map.
        source: the schema as the user wrote it, with its rules and descriptions.
    """

    source: Mapping[str, Json]
    type: str = ""
    types: tuple[str, ...] = ()
    nullable: bool = False
    default: Json = MISSING
    default_size: int = 0
    enum: tuple[Json, ...] = ()
    scalars: frozenset[tuple[bool, Json]] = frozenset()
    maximum: float | None = None
    minimum: float | None = None
    excludes_maximum: bool = False
    excludes_minimum: bool = False
    multiple_of: float | None = None
    max_length: int | None = None
    min_length: int | None = None
    pattern: StringPattern | None = None
    format: str = ""
    check_format: FormatCheck | None = None
    max_items: int | None = None
    min_items: int | None = None
    max_properties: int | None = None
    min_properties: int | None = None
    required: tuple[str, ...] = ()
    properties: Mapping[str, SchemaNode] = MISSING
    additional: SchemaNode | bool | None = None
    items: SchemaNode | None = None
    all_of: tuple[SchemaNode, ...] = ()
    any_of: tuple[SchemaNode, ...] = ()
    one_of: tuple[SchemaNode, ...] = ()
    negated: SchemaNode | None = None
    preserve: bool = False
    embedded: bool = False
    int_or_string: bool = False
    list_type: str = ""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""

    @property
    def rest(self) -> SchemaNode | None:
        """Return the schema of properties without a schema of their own, or None."""
        return self.additional if isinstance(self.additional, SchemaNode) else None

    def property(self, name: str) -> SchemaNode | None:
        """Return the schema that applies to the property `name`, or None."""
        return self.properties.get(name) or self.rest


def scalar(value: Json) -> tuple[bool, Json]:
    """Return a key for a string, number, boolean or null. Equal values have equal keys; true does not equal 1."""
    return isinstance(value, bool), value


def parse_schema(source: Mapping[str, Json]) -> SchemaNode:
    """Return the tree of a stored `openAPIV3Schema`.

    Malformed patterns, and `items` that is a list, are left out: `schemacheck.py` reports them.
    """
    kind = source.get("type") or ""
    either = bool(source.get("x-kubernetes-int-or-string"))
    types = ("integer", "string") if either else (kind,) if kind else ()
    items = source.get("items")
    additional = source.get("additionalProperties")
    negated = source.get("not")
    format = _known_format(source.get("format") or "", types)
    return SchemaNode(
        source=source,
        type=kind,
        types=types,
        nullable=bool(source.get("nullable")),
        default=source.get("default", MISSING),
        default_size=len(msgspec.json.encode(source["default"])) if "default" in source else 0,
        enum=tuple(source.get("enum") or ()),
        scalars=frozenset(scalar(one) for one in source.get("enum") or () if not isinstance(one, dict | list)),
        maximum=source.get("maximum"),
        minimum=source.get("minimum"),
        excludes_maximum=bool(source.get("exclusiveMaximum")),
        excludes_minimum=bool(source.get("exclusiveMinimum")),
        multiple_of=source.get("multipleOf"),
        max_length=source.get("maxLength"),
        min_length=source.get("minLength"),
        pattern=_pattern(source.get("pattern") or ""),
        format=format,
        check_format=FORMATS.get(format.replace("-", "")),
        max_items=source.get("maxItems"),
        min_items=source.get("minItems"),
        max_properties=source.get("maxProperties"),
        min_properties=source.get("minProperties"),
        required=tuple(source.get("required") or ()),
        properties={name: parse_schema(one) for name, one in (source.get("properties") or {}).items()},
        additional=parse_schema(additional) if isinstance(additional, dict) else additional,
        items=parse_schema(items) if isinstance(items, dict) else None,
        all_of=_each(source, "allOf"),
        any_of=_each(source, "anyOf"),
        one_of=_each(source, "oneOf"),
        negated=parse_schema(negated) if isinstance(negated, dict) else None,
        preserve=bool(source.get("x-kubernetes-preserve-unknown-fields")),
        embedded=bool(source.get("x-kubernetes-embedded-resource")),
        int_or_string=either,
        list_type=source.get("x-kubernetes-list-type") or "",
        list_keys=tuple(source.get("x-kubernetes-list-map-keys") or ()),
        map_type=source.get("x-kubernetes-map-type") or "",
    )


def _each(source: Mapping[str, Json], key: str) -> tuple[SchemaNode, ...]:
    return tuple(parse_schema(one) for one in source.get(key) or ())


def _pattern(text: str) -> StringPattern | None:
    if not text:
        return None
    try:
        return compile_pattern(text)
    except ValueError:
        return None


def _known_format(format: str, types: tuple[str, ...]) -> str:
    """Return the format, or "" when it is ignored for these types (`validation/formats.go`)."""
    kind = types[0] if len(types) == 1 else ""
    if kind in ("", "string"):
        return format if format.replace("-", "") in FORMATS else ""
    return format if format in _NUMBER_FORMATS.get(kind, ()) else ""
