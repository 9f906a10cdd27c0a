"""OpenAPI definitions of custom types (apiextensions-apiserver `pkg/controller/openapi/builder`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.table import openapi_name

__all__ = ["custom_definitions", "custom_name"]

Json = dict[str, Any]

_API_VERSION = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    "schemas to the latest internal value, and may reject unrecognized values. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
)
_KIND = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_TYPE_META: Json = {
    "apiVersion": {"type": "string", "description": _API_VERSION},
    "kind": {"type": "string", "description": _KIND},
}
_EMBEDDED_TYPE_META: Json = {
    "apiVersion": {
        "type": "string",
        "description": "apiVersion defines the versioned schema of this representation of an object. "
        f"More info: {_CONVENTIONS}#resources",
    },
    "kind": {
        "type": "string",
        "description": "kind is a string value representing the type of this object. In CamelCase. "
        f"More info: {_CONVENTIONS}#types-kinds",
    },
}
_OBJECT_META = ("meta.v1.ObjectMeta", f"Standard object's metadata. More info: {_CONVENTIONS}#metadata")
_LIST_META = ("meta.v1.ListMeta", f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds")
_ALTERNATIVES = ("allOf", "anyOf", "oneOf")
# Keywords that OpenAPI v2 does not have.
_NOT_IN_V2 = (*_ALTERNATIVES, "not", "nullable", "default")
# Keywords that have a meaning even when their value is empty or false.
_ALWAYS_KEPT = ("additionalProperties", "default", "example", "externalDocs", "not")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def custom_name(group: str, version: str, kind: str) -> str:
    """Return the name of a definition: `com.example.v1.Widget`."""
    return ".".join([*reversed(group.split(".")), version, kind])


def custom_definitions(row: Resource, schema: CustomSchema, prefix: str, *, v2: bool) -> dict[str, Json]:
    """Return the definitions of a custom type and of its lists. prefix: the beginning of references."""
    name = custom_name(row.group, row.version, row.kind)
    preserves = bool(schema.source.get("x-kubernetes-preserve-unknown-fields"))
    if not schema.source or (v2 and preserves):
        # For kubectl, a schema with properties allows no other properties.
        found: Json = {"type": "object"}
    else:
        found = _converted(schema.source, prefix, v2=v2)
        metadata = _reference(*_OBJECT_META, prefix, v2=v2)
        found["properties"] = {**found.get("properties", {}), **_TYPE_META, "metadata": metadata}
    found["x-kubernetes-group-version-kind"] = [{"group": row.group, "kind": row.kind, "version": row.version}]
    listing: Json = {
        "type": "object",
        "description": f"{row.listed_as} is a list of {row.kind}",
        "required": ["items"],
        "properties": {
            **_TYPE_META,
            "items": {
                "type": "array",
                "description": f"List of {row.plural}. More info: {_CONVENTIONS}",
                "items": {"$ref": prefix + name},
            },
            "metadata": _reference(*_LIST_META, prefix, v2=v2),
        },
        "x-kubernetes-group-version-kind": [{"group": row.group, "kind": row.listed_as, "version": row.version}],
    }
    if schema.selectable:
        for one in (found, listing):
            one["x-kubernetes-selectable-fields"] = [
                {"fieldPath": path.removeprefix(".")} for path in schema.selectable
            ]
    return {name: found, custom_name(row.group, row.version, row.listed_as): listing}


def _reference(name: str, description: str, prefix: str, *, v2: bool) -> Json:
    reference = {"$ref": prefix + openapi_name(name)}
    # OpenAPI 3.0 allows no other keys next to a $ref.
    return {**(reference if v2 else {"allOf": [reference]}), "description": description}


def _converted(source: Any, prefix: str, *, v2: bool) -> Json:
    """Return a schema for the document: with the metadata of embedded objects, and for v2 with v2's keywords only."""
    found = _without_empty(source)
    if v2:
        _reduce_to_v2(found)
    else:
        _unfold(found)
        _convert_alternatives(found)
    if "properties" in found:
        found["properties"] = {
            name: _converted(one, prefix, v2=v2) for name, one in sorted(found["properties"].items())
        }
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = _converted(found[key], prefix, v2=v2)
    if source.get("x-kubernetes-embedded-resource") and not (v2 and source.get("x-kubernetes-preserve-unknown-fields")):
        metadata = _reference(*_OBJECT_META, prefix, v2=v2)
        found["properties"] = {**found.get("properties", {}), **_EMBEDDED_TYPE_META, "metadata": metadata}
        found["required"] = [*dict.fromkeys([*found.get("required", ()), "kind", "apiVersion"])]
    return found


def _without_empty(source: Any) -> Json:
    """Return a schema without the keywords that Go's encoder leaves out (`omitempty`)."""
    return {
        key: value
        for key, value in source.items()
        if value is not None and (key in _ALWAYS_KEPT or (value is not False and value not in ("", [], {})))
    }


def _reduce_to_v2(found: Json) -> None:
    """Remove everything that OpenAPI v2 and kubectl do not know (`pkg/controller/openapi/v2/conversion.go`)."""
    if found.get("nullable"):
        for key in ("type", "items", "properties"):
            found.pop(key, None)
    if found.get("x-kubernetes-preserve-unknown-fields"):
        found.pop("items", None)
        found.pop("properties", None)
        if found.get("type") == "object":
            del found["type"]
    if found.get("type") == "array" and "items" not in found:
        del found["type"]
    for key in _NOT_IN_V2:
        found.pop(key, None)
    nullable = {name for name, one in found.get("properties", {}).items() if one.get("nullable")}
    required = [name for name in found.get("required", ()) if name not in nullable]
    values = found.get("additionalProperties")
    if isinstance(values, dict) and values.get("nullable"):
        required = []
    if required:
        found["required"] = required
    else:
        found.pop("required", None)


def _unfold(found: Json) -> None:
    """Add standard keywords with the meaning of x-kubernetes-int-or-string (`pkg/apiserver/schema/unfold.go`)."""
    if not found.get("x-kubernetes-int-or-string") or found.get("anyOf") == _INT_OR_STRING:
        return
    every = found.get("allOf", [])
    if every and every[0].get("anyOf") == _INT_OR_STRING:
        return
    if "anyOf" in found:
        found["allOf"] = [{"anyOf": _INT_OR_STRING}, *every]
    else:
        found["anyOf"] = _INT_OR_STRING


def _convert_alternatives(found: Json) -> None:
    """Convert the schemas in allOf, anyOf, oneOf and not. Such a schema allows properties that it does not name."""
    for key in _ALTERNATIVES:
        if key in found:
            found[key] = [_alternative(one) for one in found[key]]
    if "not" in found:
        found["not"] = _alternative(found["not"])


def _alternative(source: Any) -> Json:
    found = _without_empty(source)
    found.pop("additionalProperties", None)
    _convert_alternatives(found)
    if "properties" in found:
        found["properties"] = {name: _alternative(one) for name, one in sorted(found["properties"].items())}
    if isinstance(found.get("items"), dict):
        found["items"] = _alternative(found["items"])
    return found
