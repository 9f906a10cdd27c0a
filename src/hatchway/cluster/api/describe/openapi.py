"""OpenAPI v3 (`/openapi/v3`, one document for each group version) and v2 (`/openapi/v2`), from the registry's rows.

kubectl reads them for three things: whether PATCH takes `fieldValidation` (then the server validates), the schema of
a kind (`explain`), and merge keys (`apply`). Documents are made at first use and kept as bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import hatchway
from hatchway.cluster.api.describe.discovery import by_group_version
from hatchway.cluster.api.describe.documents import ServedDocument
from hatchway.cluster.api.describe.openapi_custom import custom_definitions, custom_name
from hatchway.cluster.api.describe.openapi_docs import descriptions
from hatchway.cluster.api.describe.openapi_protobuf import CONTENT_TYPE, encode_v2, wants_protobuf
from hatchway.cluster.api.describe.remoteversions import RemoteDocument, RemoteVersion, add_document
from hatchway.cluster.api.registry.resource import Resource, Subresource
from hatchway.cluster.api.registry.schema.table import GVK, Field, TypeDefinition, load, openapi_name

__all__ = ["OpenAPI"]

Json = dict[str, Any]

_V2, _V3 = "#/definitions/", "#/components/schemas/"
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
# Types with a definition of their own, by kind in the table: name, v3 schema, v2 schema ({} for the same).
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
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC = (*_PATCHES[:2], "application/strategic-merge-patch+json", _PATCHES[2])
_BODIES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_CUSTOM_BODIES = _BODIES[:2]
_QUERY = {
    "dryRun": "string",
    "fieldManager": "string",
    "fieldValidation": "string",
    "force": "boolean",
    "gracePeriodSeconds": "integer",
    "propagationPolicy": "string",
    "labelSelector": "string",
    "fieldSelector": "string",
    "limit": "integer",
    "continue": "string",
    "resourceVersion": "string",
    "resourceVersionMatch": "string",
    "timeoutSeconds": "integer",
    "watch": "boolean",
    "allowWatchBookmarks": "boolean",
    "sendInitialEvents": "boolean",
}
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_LIST = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
]
_DELETE = ("dryRun", "gracePeriodSeconds", "propagationPolicy")


class OpenAPI:
    """The documents of the registry's rows, and the index with those of remote versions.

    version: the value of `info.version`, as in `/version`. The API server forwards requests for remote documents.
    """

    def __init__(self, rows: Iterable[Resource], version: str = "v1.37.0") -> None:
        self._rows = by_group_version(rows)
        self._version = version
        self._documents: dict[str, ServedDocument] = {}
        self._known: dict[str, str] = {}
        self._remote: tuple[RemoteDocument, ...] = ()
        self._hash = hashlib.sha256(f"{hatchway.__version__} {version}".encode())
        for message in load().definitions.values():
            self._hash.update(repr((message.name, message.own, message.inline)).encode())

    def set_rows(self, rows: Iterable[Resource]) -> None:
        """Replace the rows; documents of versions whose rows stay the same are kept."""
        before, self._rows = self._rows, by_group_version(rows)
        for gv, found in before.items():
            if self._rows.get(gv) != found:
                self._documents.pop("v3/" + _path(gv), None)
        for key in ("v3", "v2", "v2.pb"):
            self._documents.pop(key, None)

    def set_remote(self, versions: Iterable[RemoteVersion]) -> None:
        """Replace the versions that other servers serve."""
        found = list(versions)
        self._known = {_path((one.group, one.version)): one.openapi for one in found if one.openapi}
        self._documents.pop("v3", None)
        documents = tuple(one.document for one in found if one.document is not None)
        if documents != self._remote:
            self._remote = documents
            self._documents.pop("v2", None)
            self._documents.pop("v2.pb", None)

    def index(self) -> ServedDocument:
        """Return `/openapi/v3`: the group versions with the hash of each document, without making the documents."""
        paths = {
            _path(gv): {"serverRelativeURL": f"/openapi/v3/{_path(gv)}?hash={self._hash_of(gv)}"} for gv in self._rows
        }
        # An APIService comes before a CustomResourceDefinition of the same group and version.
        remote = {path: {"serverRelativeURL": url} for path, url in self._known.items()}
        return self._keep("v3", lambda: {"paths": {**paths, **remote}})

    def v3(self, path: str) -> ServedDocument | None:
        """Return `/openapi/v3/PATH`; None for a path other than `api/v1` and `apis/GROUP/VERSION`."""
        for gv, rows in self._rows.items():
            if path.strip("/") == _path(gv):
                return self._keep("v3/" + _path(gv), lambda gv=gv, rows=rows: self._document_v3(gv, rows))
        return None

    def v2(self, accept: str = "") -> ServedDocument:
        """Return `/openapi/v2` with all group versions, as JSON, or as gnostic's protobuf for older kubectls."""
        if not wants_protobuf(accept):
            return self._keep("v2", self._document_v2)
        if "v2.pb" not in self._documents:
            self._documents["v2.pb"] = ServedDocument.of_bytes(encode_v2(self._document_v2()), CONTENT_TYPE)
        return self._documents["v2.pb"]

    def _keep(self, key: str, make: Any) -> ServedDocument:
        if key not in self._documents:
            self._documents[key] = ServedDocument.of(make())
        return self._documents[key]

    def _hash_of(self, gv: tuple[str, str]) -> str:
        digest = self._hash.copy()
        for row in self._rows[gv]:
            subs = [(sub.name, sub.verbs, sub.kind) for sub in row.subresources]
            digest.update(repr((row.plural, row.kind, row.namespaced, row.verbs, subs)).encode())
            if row.own_schema is not None:
                shown = [row.own_schema.source, row.own_schema.selectable, row.listed_as]
                digest.update(json.dumps(shown, sort_keys=True).encode())
        return digest.hexdigest().upper()

    def _document_v3(self, gv: tuple[str, str], rows: list[Resource]) -> Json:
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "paths": _paths(gv, rows, _OperationWriter(_V3, rows)),
            "components": {"schemas": _schemas(rows, _V3)},
        }

    def _document_v2(self) -> Json:
        paths: Json = {}
        for gv, rows in self._rows.items():
            paths.update(_paths(gv, rows, _OperationWriter(_V2, rows)))
        definitions = _schemas([row for rows in self._rows.values() for row in rows], _V2)
        for document in self._remote:
            add_document(paths, definitions, document)
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "paths": paths,
            "definitions": definitions,
        }


def _path(gv: tuple[str, str]) -> str:
    group, version = gv
    return f"apis/{group}/{version}" if group else f"api/{version}"


# Schemas


def _schemas(rows: list[Resource], prefix: str) -> Json:
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
            found.update(custom_definitions(row, row.own_schema, prefix, v2=prefix == _V2))
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
        found[name] = v2 if prefix == _V2 and v2 else v3
    # kubectl asks for the parameters of JSON patches by this name.
    found["io.k8s.apimachinery.pkg.apis.meta.v1.Patch"] = {"type": "object"}
    return dict(sorted(found.items()))


def _kinds(row: Resource) -> Iterator[GVK]:
    yield GVK(row.group, row.version, row.kind)
    yield _list_of(row)
    for sub in row.subresources:
        yield _sub_gvk(row, sub)


def _sub_gvk(row: Resource, sub: Subresource) -> GVK:
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
    elif "$ref" in element and prefix == _V3:
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


# Paths


class _OperationWriter:
    """Writes operations in the format of v2 or v3. rows: the types whose operations are written."""

    def __init__(self, prefix: str, rows: Iterable[Resource]) -> None:
        self.prefix = prefix
        self.v3 = prefix == _V3
        self.custom = {gvk for row in rows if row.own_schema is not None for gvk in (GVK(*row.gvk), _list_of(row))}

    def operation(
        self, action: str, verb: str, gvk: GVK, answer: GVK, query: Iterable[str], bodies: Iterable[str] = ()
    ) -> Json:
        """Return one operation.

        action: Kubernetes' verb. verb: the operation's id. answer: the type of its answer, and of the body of a write.
        """
        found: Json = {
            "operationId": verb,
            "responses": self._responses(answer),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": gvk.group, "kind": gvk.kind, "version": gvk.version},
        }
        parameters = [self._parameter(name, "query", _QUERY[name]) for name in query]
        bodies = list(bodies)
        if bodies:
            body = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch" if action == "patch" else self._name(answer)
            if action.startswith("delete"):
                body = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
            schema = {"$ref": self.prefix + body} if body else {"type": "object"}
            if self.v3:
                content = {one: {"schema": schema} for one in bodies}
                found["requestBody"] = {"content": content, "required": not action.startswith("delete")}
            else:
                found["consumes"] = bodies
                parameters.append(
                    {"name": "body", "in": "body", "required": not action.startswith("delete"), "schema": schema}
                )
        if not self.v3:
            found["produces"] = ["application/json"]
        if parameters:
            found["parameters"] = parameters
        return found

    def path_parameters(self, names: Iterable[str]) -> list[Json]:
        return [{**self._parameter(name, "path", "string"), "required": True} for name in names]

    def _parameter(self, name: str, place: str, kind: str) -> Json:
        if self.v3:
            return {"name": name, "in": place, "schema": {"type": kind, "uniqueItems": True}}
        return {"name": name, "in": place, "type": kind, "uniqueItems": True}

    def _name(self, gvk: GVK) -> str:
        if gvk in self.custom:
            return custom_name(*gvk)
        return openapi_name(load().message(gvk).name) if load().has(gvk) else ""

    def _responses(self, gvk: GVK) -> Json:
        name = self._name(gvk)
        schema = {"$ref": self.prefix + name} if name else {"type": "string"}
        if self.v3:
            return {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}
        return {"200": {"description": "OK", "schema": schema}}


def _paths(gv: tuple[str, str], rows: list[Resource], writer: _OperationWriter) -> Json:
    base = "/" + _path(gv)
    found: Json = {}
    for row in rows:
        scope = f"{base}/namespaces/{{namespace}}" if row.namespaced else base
        names = ["namespace"] if row.namespaced else []
        words = _words(row)
        collection = f"{scope}/{row.plural}"
        if row.namespaced and "list" in row.verbs:
            gvk = GVK(row.group, row.version, row.kind)
            listing = writer.operation("list", f"list{words[0]}{words[1]}ForAllNamespaces", gvk, _list_of(row), _LIST)
            found[f"{base}/{row.plural}"] = {"get": listing}
        _put(found, collection, dict(_collection(row, words, writer)), writer, names)
        _put(found, collection + "/{name}", dict(_item(row, words, writer)), writer, [*names, "name"])
        for sub in row.subresources:
            operations = dict(_sub(row, sub, words, writer))
            _put(found, f"{collection}/{{name}}/{sub.name}", operations, writer, [*names, "name"])
    return dict(sorted(found.items()))


def _put(found: Json, path: str, operations: Json, writer: _OperationWriter, names: list[str]) -> None:
    if operations:
        found[path] = {**operations, "parameters": writer.path_parameters(names)}


def _words(row: Resource) -> tuple[str, str]:
    """Return the middle and the end of an operation's id: `CoreV1Namespaced` and `Pod`."""
    group = (row.group or "core").removesuffix(".k8s.io")
    middle = "".join(word[:1].upper() + word[1:] for word in [*group.replace("-", ".").split("."), row.version])
    return middle, row.kind


def _bodies(row: Resource) -> tuple[str, ...]:
    """Return the media types of request bodies: custom types take no protobuf."""
    return _BODIES if row.own_schema is None else _CUSTOM_BODIES


def _list_of(row: Resource) -> GVK:
    return GVK(row.group, row.version, row.listed_as)


def _collection(row: Resource, words: tuple[str, str], writer: _OperationWriter) -> Iterator[tuple[str, Json]]:
    gvk = GVK(row.group, row.version, row.kind)
    middle = words[0] + ("Namespaced" if row.namespaced else "")
    status = GVK("", "v1", "Status")
    if "list" in row.verbs:
        yield "get", writer.operation("list", f"list{middle}{row.kind}", gvk, _list_of(row), _LIST)
    if "create" in row.verbs:
        yield "post", writer.operation("post", f"create{middle}{row.kind}", gvk, gvk, _WRITE, _bodies(row))
    if "deletecollection" in row.verbs:
        name = f"delete{words[0]}Collection{middle.removeprefix(words[0])}{row.kind}"
        yield "delete", writer.operation("deletecollection", name, gvk, status, [*_DELETE, *_LIST], _bodies(row))


def _item(row: Resource, words: tuple[str, str], writer: _OperationWriter) -> Iterator[tuple[str, Json]]:
    gvk = GVK(row.group, row.version, row.kind)
    middle = words[0] + ("Namespaced" if row.namespaced else "")
    yield from _changes(row, row.verbs, middle + row.kind, gvk, gvk, writer)
    if "delete" in row.verbs:
        status = GVK("", "v1", "Status")
        yield "delete", writer.operation("delete", f"delete{middle}{row.kind}", gvk, status, _DELETE, _bodies(row))


def _sub(
    row: Resource, sub: Subresource, words: tuple[str, str], writer: _OperationWriter
) -> Iterator[tuple[str, Json]]:
    middle = words[0] + ("Namespaced" if row.namespaced else "")
    gvk, name = _sub_gvk(row, sub), f"{middle}{row.kind}{sub.name.capitalize()}"
    if sub.connect is not None and sub.connect.takes_path:
        # A proxy's verbs are HTTP methods, and the target answers.
        methods = {"create": "post", "delete": "delete", "get": "get", "patch": "patch", "update": "put"}
        for verb in sub.verbs:
            yield methods[verb], writer.operation("connect", f"connect{verb.capitalize()}{name}", gvk, gvk, ())
        return
    # The operations of a custom type's scale are named after the type, those of a built-in type's after Scale.
    named = GVK(*row.gvk) if row.own_schema is not None else gvk
    yield from _changes(row, sub.verbs, name, named, gvk, writer)
    if "create" in sub.verbs:
        yield "post", writer.operation("post", f"create{name}", gvk, gvk, _WRITE, _BODIES)


def _changes(
    row: Resource, verbs: Iterable[str], name: str, gvk: GVK, answer: GVK, writer: _OperationWriter
) -> Iterator[tuple[str, Json]]:
    if "get" in verbs:
        yield "get", writer.operation("get", f"read{name}", gvk, answer, ())
    if "update" in verbs:
        yield "put", writer.operation("put", f"replace{name}", gvk, answer, _WRITE, _bodies(row))
    if "patch" in verbs:
        patches = _STRATEGIC if row.schema.merges_strategically else _PATCHES
        yield "patch", writer.operation("patch", f"patch{name}", gvk, answer, [*_WRITE, "force"], patches)
