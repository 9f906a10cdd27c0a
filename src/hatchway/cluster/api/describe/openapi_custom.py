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
# Keywords that OpenAPI v2 does not have.
_NOT_IN_V2 = ("oneOf", "anyOf", "allOf", "not", "nullable", "default")


def custom_name(group: str, version: str, kind: str) -> str:
    """Return the name of a definition: `com.example.v1.Widget`."""
    return ".".join([*reversed(group.split(".")), version, kind])


def custom_definitions(row: Resource, schema: CustomSchema, prefix: str, *, v2: bool) -> dict[str, Json]:
    """Return the definitions of a custom type and of its lists. prefix: what references begin with."""
    name = custom_name(row.group, row.version, row.kind)
    metadata = {"$ref": prefix + openapi_name("meta.v1.ObjectMeta")}
    preserves = bool(schema.source.get("x-kubernetes-preserve-unknown-fields"))
    if not schema.source or (v2 and preserves):
        # kubectl takes a schema with properties for one that allows no others.
        found: Json = {"type": "object"}
    else:
        found = _converted(schema.source, prefix, v2=v2)
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
            "metadata": {"$ref": prefix + openapi_name("meta.v1.ListMeta")},
        },
        "x-kubernetes-group-version-kind": [{"group": row.group, "kind": row.listed_as, "version": row.version}],
    }
    return {name: found, custom_name(row.group, row.version, row.listed_as): listing}


def _converted(source: Any, prefix: str, *, v2: bool) -> Json:
    """Return a schema as the document shows it: with the metadata of embedded objects, and what v2 allows."""
    found: Json = {key: value for key, value in source.items() if not (v2 and key in _NOT_IN_V2)}
    if v2 and (source.get("nullable") or source.get("x-kubernetes-int-or-string")):
        found.pop("type", None)
    if v2 and (source.get("nullable") or source.get("x-kubernetes-preserve-unknown-fields")):
        found.pop("items", None)
        found.pop("properties", None)
    if isinstance(found.get("properties"), dict):
        found["properties"] = {
            name: _converted(one, prefix, v2=v2) for name, one in sorted(found["properties"].items())
        }
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = _converted(found[key], prefix, v2=v2)
    if source.get("x-kubernetes-embedded-resource") and not (v2 and source.get("x-kubernetes-preserve-unknown-fields")):
        metadata = {"$ref": prefix + openapi_name("meta.v1.ObjectMeta")}
        found["properties"] = {**found.get("properties", {}), **_TYPE_META, "metadata": metadata}
        found["required"] = [*dict.fromkeys([*(found.get("required") or ()), "kind", "apiVersion"])]
    return found
