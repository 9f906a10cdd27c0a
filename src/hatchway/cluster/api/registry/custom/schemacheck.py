"""Checks the schema of a custom type (apiextensions-apiserver `pkg/apis/apiextensions/validation`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.embedded import embedded_errors
from hatchway.cluster.api.registry.custom.node import META_FIELDS, parse_schema
from hatchway.cluster.api.registry.custom.pruning import prune
from hatchway.cluster.api.registry.custom.rulesource import has_rules, rules_of
from hatchway.cluster.api.registry.custom.structuralcheck import structural_errors
from hatchway.cluster.api.registry.custom.valuecheck import check_value
from hatchway.errors import Cause

__all__ = ["schema_errors"]

Json = Any
Source = Mapping[str, Json]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = {
    "id": "id is not supported",
    "additionalItems": "additionalItems is not supported",
    "patternProperties": "patternProperties is not supported",
    "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported",
    "$ref": "$ref is not supported",
}
# The fields that a root schema may have if the type has the subresource `status`, with their names in messages.
_AT_ROOT = {
    "description": "Description", "type": "Type", "format": "Format", "title": "Title", "maximum": "Maximum",
    "exclusiveMaximum": "ExclusiveMaximum", "minimum": "Minimum", "exclusiveMinimum": "ExclusiveMinimum",
    "maxLength": "MaxLength", "minLength": "MinLength", "pattern": "Pattern", "maxItems": "MaxItems",
    "minItems": "MinItems", "uniqueItems": "UniqueItems", "multipleOf": "MultipleOf", "required": "Required",
    "items": "Items", "properties": "Properties", "externalDocs": "ExternalDocs", "example": "Example",
    "x-kubernetes-preserve-unknown-fields": "XPreserveUnknownFields", "x-kubernetes-validations": "XValidations",
}  # fmt: skip


def schema_errors(source: Source, path: str, *, has_status: bool) -> list[Cause]:
    """Return the errors in a schema.

    Args:
        source: the `openAPIV3Schema`.
        path: its field.
        has_status: True if the type has the subresource `status`.
    """
    causes: list[Cause] = []
    if has_status:
        causes += _root_errors(source, path)
    if source.get("nullable"):
        causes.append(v.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    structural = structural_errors(source, path)
    causes += structural
    if not structural:
        causes += _default_errors(source, path)
    causes += _openapi_errors(source, path, _Place())
    # Expressions can be checked only against a schema without errors.
    return causes or _expression_errors(source, path)


def _expression_errors(source: Source, path: str) -> list[Cause]:
    if not has_rules(source):
        return []
    # Imported here, because most types have no rules.
    from hatchway.cluster.api.registry.custom.rulecheck import expression_errors

    return expression_errors(source, path)


def _rule_errors(source: Source, path: str) -> Iterator[Cause]:
    if rules_of(source):
        from hatchway.cluster.api.registry.custom.rulecheck import rule_errors

        yield from rule_errors(source, path)


def _root_errors(source: Source, path: str) -> Iterator[Cause]:
    for key, value in source.items():
        if not value:
            continue
        if key == "type":
            if value != "object":
                text = (
                    'only "object" is allowed as the type at the root of the schema if the status subresource is '
                    "enabled"
                )
                yield v.invalid(f"{path}.type", value, text)
                return
        elif key not in _AT_ROOT:
            allowed = " ".join(_AT_ROOT.values())
            text = f"only [{allowed}] fields are allowed at the root of the schema if the status subresource is enabled"
            yield v.invalid(path, source, text)
            return


# Defaults


def _default_errors(source: Source, path: str, *, inside_metadata: bool = False, root: bool = True) -> Iterator[Cause]:
    """Check that defaults fit their schemas. Defaults inside of metadata are not checked for unknown fields."""
    embedded = root or bool(source.get("x-kubernetes-embedded-resource"))
    if source.get("default") is not None and not root:
        node = parse_schema(source)
        default = msgspec.json.decode(msgspec.json.encode(source["default"]))
        at = f"{path}.default"
        if not inside_metadata:
            pruned = msgspec.json.decode(msgspec.json.encode(default))
            prune(pruned, node, [])
            if pruned != default:
                yield v.invalid(at, default, "must not have unknown fields")
            for cause in embedded_errors(default, node):
                yield replace(cause, field=f"{at}.{cause.field}")
        for cause in check_value(default, node, ""):
            yield replace(cause, field=at if cause.field == "<nil>" else f"{at}.{cause.field}")
    items = source.get("items")
    if isinstance(items, dict):
        yield from _default_errors(items, f"{path}.items", inside_metadata=inside_metadata, root=False)
    for name, one in (source.get("properties") or {}).items():
        inside = (inside_metadata and not embedded) or (embedded and name in META_FIELDS)
        yield from _default_errors(one, f"{path}.properties[{name}]", inside_metadata=inside, root=False)


# Each part


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a schema in the whole schema.

    is_root: it is the whole schema. in_metadata: it is inside of apiVersion, kind or metadata. no_defaults: why the
    schema may not have defaults; "" when it may.
    """

    is_root: bool = True
    in_metadata: bool = False
    no_defaults: str = ""

    def inner(self, **changes: Any) -> _Place:
        return replace(self, is_root=False, **changes)


def _openapi_errors(source: Source, path: str, place: _Place) -> Iterator[Cause]:
    yield from _keyword_errors(source, path, place)
    additional, properties, items = (source.get(key) for key in ("additionalProperties", "properties", "items"))
    if source.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield v.forbidden(f"{path}.uniqueItems", text)
    if additional is not None:
        if properties and additional is not True:
            text = "additionalProperties and properties are mutual exclusive"
            yield v.forbidden(f"{path}.additionalProperties", text)
        if isinstance(additional, dict):
            reason = "inside additionalProperties applying to object metadata"
            inner = place.inner(no_defaults=reason) if place.in_metadata else place.inner()
            yield from _openapi_errors(additional, f"{path}.additionalProperties", inner)
    for name, one in (properties or {}).items():
        inner = place.inner()
        if (place.is_root or source.get("x-kubernetes-embedded-resource")) and name in META_FIELDS:
            inner = place.inner(in_metadata=True)
            if place.is_root:
                inner = replace(inner, no_defaults=f"in top-level {name}")
        yield from _openapi_errors(one, f"{path}.properties[{name}]", inner)
    if isinstance(source.get("not"), dict):
        yield from _openapi_errors(source["not"], f"{path}.not", place.inner())
    for key in ("allOf", "oneOf", "anyOf"):
        for index, one in enumerate(source.get(key) or ()):
            yield from _openapi_errors(one, f"{path}.{key}[{index}]", place.inner())
    if isinstance(items, dict):
        yield from _openapi_errors(items, f"{path}.items", place.inner())
    yield from _extension_errors(source, path)
    yield from _rule_errors(source, path)


def _keyword_errors(source: Source, path: str, place: _Place) -> Iterator[Cause]:
    kind = source.get("type") or ""
    if kind and kind not in _TYPES:
        yield v.not_supported(f"{path}.type", kind, _TYPES)
    if source.get("default") is not None and place.no_defaults:
        yield v.forbidden(f"{path}.default", f"must not be set {place.no_defaults}")
    for key, text in _UNSUPPORTED.items():
        if source.get(key) is not None and source.get(key) != "":
            yield v.forbidden(f"{path}.{key}", text)
    if kind == "null":
        yield v.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(source.get("items"), list) and source["items"]:
        yield v.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.in_metadata and source.get("x-kubernetes-embedded-resource"):
        yield v.forbidden(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")


def _extension_errors(source: Source, path: str) -> Iterator[Cause]:
    kind = source.get("type") or ""
    if source.get("x-kubernetes-preserve-unknown-fields") is False:
        yield v.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    for key, wanted, known in (
        ("x-kubernetes-map-type", "object", ("atomic", "granular")),
        ("x-kubernetes-list-type", "array", ("atomic", "map", "set")),
    ):
        value = source.get(key)
        if value is None:
            continue
        text = f"must be {wanted} if {key} is specified"
        if kind != wanted:
            yield v.invalid(f"{path}.type", kind, text) if kind else v.required(f"{path}.type", text)
        elif value == "set":
            yield from _set_errors(source, path)
        if value not in known:
            yield v.not_supported(f"{path}.{key}", value, known)
    list_type, keys = source.get("x-kubernetes-list-type"), source.get("x-kubernetes-list-map-keys") or []
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        field = f"{path}.x-kubernetes-list-type"
        yield v.required(field, text) if list_type is None else v.invalid(field, list_type, text)
    if list_type == "map":
        yield from _map_errors(source, path, keys)
    items = source.get("items")
    if list_type in ("map", "set") and isinstance(items, dict) and items.get("nullable"):
        yield v.forbidden(f"{path}.items.nullable", f"cannot be nullable when x-kubernetes-list-type is {list_type}")


def _set_errors(source: Source, path: str) -> Iterator[Cause]:
    items = source.get("items")
    if not isinstance(items, dict):
        return
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    kind = items.get("type")
    if kind == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
        yield v.invalid(f"{path}.items.x-kubernetes-list-type", items["x-kubernetes-list-type"], text)
    elif kind == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield v.invalid(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-list-type"), text)


def _map_errors(source: Source, path: str, keys: list[str]) -> Iterator[Cause]:
    items, field = source.get("items"), f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        yield v.required(field, "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        yield v.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
    if not isinstance(items, dict):
        return
    kind = items.get("type") or ""
    if kind != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        yield v.invalid(f"{path}.items.type", kind, text)
        return
    properties, required = items.get("properties") or {}, items.get("required") or ()
    for number, key in enumerate(keys):
        one, at = properties.get(key), f"{path}.items.properties[{key}]"
        if one is None:
            yield v.invalid(field, keys, "entries must all be names of item properties")
        elif one.get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield v.invalid(f"{at}.type", kind, text)
        if key in keys[:number]:
            yield v.invalid(field, keys, "must not contain duplicate entries")
        if one is not None and key not in required and one.get("default") is None:
            text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            yield v.required(f"{at}.default", text)
        if one is not None and one.get("nullable"):
            text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            yield v.forbidden(f"{at}.nullable", text)
