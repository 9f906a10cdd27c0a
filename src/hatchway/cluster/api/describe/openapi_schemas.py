"""The schemas in OpenAPI documents: the definitions of types, from the generated table of types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hatchway.cluster.api.describe.openapi_custom import custom_definitions
from hatchway.cluster.api.describe.openapi_docs import descriptions
from hatchway.cluster.api.registry.resource import Resource, Subresource
from hatchway.cluster.api.registry.schema.table import GVK, Field, TypeDefinition, load, openapi_name

__all__ = ["V2_REFERENCES", "V3_REFERENCES", "list_gvk", "openapi_schemas", "subresource_gvk"]

Json = dict[str, Any]

# The beginnings of references to definitions, in both formats.
V2_REFERENCES, V3_REFERENCES = "#/definitions/", "#/components/schemas/"
_SCALARS: dict[str, Json] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "boolean": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "strings": {"type": "array", "items": {"type": "string"}},
}
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
# Scalar types of the table that have a definition of their own: name, v3 schema, v2 schema ({} if equal).
_SPECIAL: dict[str, tuple[str, Json, Json]] = {
    "time": ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", {"type": "string", "format": "date-time"}, {}),
    "microTime": ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", {"type": "string", "format": "date-time"}, {}),
    "quantity": (
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        {"oneOf": [{"type": "string"}, {"type": "number"}]},
        {"type": "string"},
    ),
    "intOrString": (
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "string", "format": "int-or-string"},
    ),
    "raw": ("io.k8s.apimachinery.pkg.runtime.RawExtension", {"type": "object"}, {}),
    "json": (f"{_EXTENSIONS}JSON", {"description": "Any JSON value."}, {}),
    "schemaOrList": (f"{_EXTENSIONS}JSONSchemaPropsOrArray", {"description": "A schema, or a list of schemas."}, {}),
    "schemaOrBoolean": (f"{_EXTENSIONS}JSONSchemaPropsOrBool", {"description": "A schema, or a boolean."}, {}),
    "schemaOrStrings": (
        f"{_EXTENSIONS}JSONSchemaPropsOrStringArray",
        {"description": "A schema, or a list of strings."},
        {},
    ),
}


def openapi_schemas(rows: list[Resource], prefix: str) -> Json:
    """Return the definitions of all kinds of these rows and of everything that they refer to."""
    schema = load()
    todo = ["meta.v1.DeleteOptions", "meta.v1.Status", "meta.v1.WatchEvent"]
    for row in rows:
        for gvk in _kinds(row):
            if schema.has(gvk):
                todo.append(schema.message(gvk).name)
    found: Json = {}
    for row in rows:
        if row.own_schema is not None:
            found.update(custom_definitions(row, row.own_schema, prefix, v2=prefix == V2_REFERENCES))
            todo += ["meta.v1.ObjectMeta", "meta.v1.ListMeta"]
    specials = {"raw"}
    while todo:
        name = todo.pop()
        if openapi_name(name) in found:
            continue
        message = schema.message(name)
        found[openapi_name(name)] = _definition(message, prefix)
        todo.extend(field.ref for field in message.fields.values() if field.ref)
        specials.update(field.kind for field in message.fields.values() if field.kind in _SPECIAL)
    for kind in specials:
        name, v3, v2 = _SPECIAL[kind]
        found[name] = v2 if prefix == V2_REFERENCES and v2 else v3
    # kubectl looks for the parameters of JSON patches under this name.
    found["io.k8s.apimachinery.pkg.apis.meta.v1.Patch"] = {"type": "object"}
    return dict(sorted(found.items()))


def _kinds(row: Resource) -> Iterator[GVK]:
    yield GVK(row.group, row.version, row.kind)
    yield list_gvk(row)
    for sub in row.subresources:
        yield subresource_gvk(row, sub)


def list_gvk(row: Resource) -> GVK:
    """Return the group, version and kind of a type's lists."""
    return GVK(row.group, row.version, row.listed_as)


def subresource_gvk(row: Resource, sub: Subresource) -> GVK:
    """Return the group, version and kind of the objects of a subresource."""
    return GVK(*row.subresource_gvk(sub))


def _definition(message: TypeDefinition, prefix: str) -> Json:
    summary, texts = descriptions(message.name)
    properties: Json = {}
    for field in sorted(message.fields.values(), key=lambda one: one.name):
        properties[field.name] = _property(field, prefix, texts.get(field.name, ""))
    found: Json = {"type": "object"}
    if summary:
        found["description"] = summary
    if properties:
        found["properties"] = properties
    required = sorted(field.name for field in message.fields.values() if field.required)
    if required:
        found["required"] = required
    if message.gvks:
        found["x-kubernetes-group-version-kind"] = [
            {"group": group, "kind": kind, "version": version} for group, version, kind in message.gvks
        ]
    return found


def _property(field: Field, prefix: str, text: str) -> Json:
    element = _element(field, prefix)
    found: Json
    if field.container == "list":
        found = {"type": "array", "items": element}
    elif field.container == "map":
        found = {"type": "object", "additionalProperties": element}
    elif "$ref" in element and prefix == V3_REFERENCES:
        # OpenAPI 3.0 allows no other keys next to a $ref.
        found = {"allOf": [element]}
    else:
        found = element
    if text:
        found["description"] = text
    if field.default is not None:
        found["default"] = field.default
    if field.list_type:
        found["x-kubernetes-list-type"] = field.list_type
    if field.map_keys:
        found["x-kubernetes-list-map-keys"] = field.map_keys
    if field.map_type:
        found["x-kubernetes-map-type"] = field.map_type
    if field.strategy:
        found["x-kubernetes-patch-strategy"] = field.strategy
    if field.merge_key:
        found["x-kubernetes-patch-merge-key"] = field.merge_key
    return found


def _element(field: Field, prefix: str) -> Json:
    if field.kind == "message":
        return {"$ref": prefix + openapi_name(field.ref)}
    if field.kind in _SPECIAL:
        return {"$ref": prefix + _SPECIAL[field.kind][0]}
    found = dict(_SCALARS[field.kind])
    if field.enum:
        found["enum"] = sorted(field.enum)
    return found
