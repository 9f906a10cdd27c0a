"""OpenAPI v3 (`/openapi/v3`, one document a group version) and v2 (`/openapi/v2`), from the table and the registry's rows.

kubectl reads them for three things: whether PATCH takes `fieldValidation` (then the server validates), the schema of
a kind (`explain`), and merge keys (`apply`). Documents are made at first use and kept as bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import hatchway
from hatchway.cluster.api.discovery import ResourceRow, SubresourceRow, by_group_version
from hatchway.cluster.api.documents import Document
from hatchway.cluster.api.openapi_docs import descriptions
from hatchway.cluster.api.openapi_protobuf import CONTENT_TYPE, encode_v2, wants_protobuf
from hatchway.cluster.api.schema.table import GVK, Field, Message, load, openapi_name

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
# Types with a definition of their own: kind in the table, name, v3 schema, v2 schema.
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
}
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json")
_BODIES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
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
    """The documents of fixed rows. version: what `info.version` says, as `/version` does."""

    def __init__(self, rows: Iterable[ResourceRow], version: str = "v1.37.0") -> None:
        self._rows = by_group_version(rows)
        self._version = version
        self._documents: dict[str, Document] = {}
        self._hash = hashlib.sha256(f"{hatchway.__version__} {version}".encode())
        for message in load().definitions.values():
            self._hash.update(repr((message.name, message.own, message.inline)).encode())

    def index(self) -> Document:
        """`/openapi/v3`: the group versions with the hash of each document, which never has to be made for it."""
        paths = {
            _path(gv): {"serverRelativeURL": f"/openapi/v3/{_path(gv)}?hash={self._hash_of(gv)}"} for gv in self._rows
        }
        return self._keep("v3", lambda: {"paths": paths})

    def v3(self, path: str) -> Document | None:
        """`/openapi/v3/PATH` where PATH is `api/v1` or `apis/GROUP/VERSION`; None for another one."""
        for gv, rows in self._rows.items():
            if path.strip("/") == _path(gv):
                return self._keep("v3/" + _path(gv), lambda gv=gv, rows=rows: self._document_v3(gv, rows))
        return None

    def v2(self, accept: str = "") -> Document:
        """`/openapi/v2`: all group versions, as JSON, or in gnostic's protobuf for who asks for it (older kubectls)."""
        if not wants_protobuf(accept):
            return self._keep("v2", self._document_v2)
        if "v2.pb" not in self._documents:
            self._documents["v2.pb"] = Document.of_bytes(encode_v2(self._document_v2()), CONTENT_TYPE)
        return self._documents["v2.pb"]

    def _keep(self, key: str, make: Any) -> Document:
        if key not in self._documents:
            self._documents[key] = Document.of(make())
        return self._documents[key]

    def _hash_of(self, gv: tuple[str, str]) -> str:
        digest = self._hash.copy()
        for row in self._rows[gv]:
            subs = [(sub.name, sub.verbs, sub.kind) for sub in row.subresources]
            digest.update(repr((row.plural, row.kind, row.namespaced, row.verbs, subs)).encode())
        return digest.hexdigest().upper()

    def _document_v3(self, gv: tuple[str, str], rows: list[ResourceRow]) -> Json:
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "paths": _paths(gv, rows, _Writer(_V3)),
            "components": {"schemas": _schemas(rows, _V3)},
        }

    def _document_v2(self) -> Json:
        paths: Json = {}
        for gv, rows in self._rows.items():
            paths.update(_paths(gv, rows, _Writer(_V2)))
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "paths": paths,
            "definitions": _schemas([row for rows in self._rows.values() for row in rows], _V2),
        }


def _path(gv: tuple[str, str]) -> str:
    group, version = gv
    return f"apis/{group}/{version}" if group else f"api/{version}"


# Schemas


def _schemas(rows: list[ResourceRow], prefix: str) -> Json:
    """The definitions of all kinds of these rows and of everything that they refer to."""
    schema = load()
    todo = ["meta.v1.DeleteOptions", "meta.v1.Status", "meta.v1.WatchEvent"]
    for row in rows:
        for gvk in _kinds(row):
            if schema.has(gvk):
                todo.append(schema.message(gvk).name)
    found: Json = {}
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


def _kinds(row: ResourceRow) -> Iterator[GVK]:
    yield GVK(row.group, row.version, row.kind)
    yield GVK(row.group, row.version, f"{row.kind}List")
    for sub in row.subresources:
        yield _sub_gvk(row, sub)


def _sub_gvk(row: ResourceRow, sub: SubresourceRow) -> GVK:
    return GVK(sub.group or row.group, sub.version or row.version, sub.kind or row.kind)


def _definition(message: Message, prefix: str) -> Json:
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
        # OpenAPI 3.0 allows nothing beside a $ref.
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


class _Writer:
    """Operations in the words of v2 or v3."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.v3 = prefix == _V3

    def operation(
        self, action: str, verb: str, gvk: GVK, answer: GVK, query: Iterable[str], bodies: Iterable[str] = ()
    ) -> Json:
        """action: Kubernetes' verb. verb: the first word of the operation's id. answer: what it gives."""
        found: Json = {
            "operationId": verb,
            "responses": self._responses(answer),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": gvk.group, "kind": gvk.kind, "version": gvk.version},
        }
        parameters = [self._parameter(name, "query", _QUERY[name]) for name in query]
        bodies = list(bodies)
        if bodies:
            body = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch" if action == "patch" else self._name(gvk)
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
        return openapi_name(load().message(gvk).name) if load().has(gvk) else ""

    def _responses(self, gvk: GVK) -> Json:
        name = self._name(gvk)
        schema = {"$ref": self.prefix + name} if name else {"type": "string"}
        if self.v3:
            return {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}
        return {"200": {"description": "OK", "schema": schema}}


def _paths(gv: tuple[str, str], rows: list[ResourceRow], writer: _Writer) -> Json:
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


def _put(found: Json, path: str, operations: Json, writer: _Writer, names: list[str]) -> None:
    if operations:
        found[path] = {**operations, "parameters": writer.path_parameters(names)}


def _words(row: ResourceRow) -> tuple[str, str]:
    """The middle and the end of an operation's id: `CoreV1Namespaced`, `Pod`."""
    group = (row.group or "core").removesuffix(".k8s.io")
    middle = "".join(word[:1].upper() + word[1:] for word in [*group.split("."), row.version])
    return middle, row.kind


def _list_of(row: ResourceRow) -> GVK:
    return GVK(row.group, row.version, f"{row.kind}List")


def _collection(row: ResourceRow, words: tuple[str, str], writer: _Writer) -> Iterator[tuple[str, Json]]:
    gvk = GVK(row.group, row.version, row.kind)
    middle = words[0] + ("Namespaced" if row.namespaced else "")
    status = GVK("", "v1", "Status")
    if "list" in row.verbs:
        yield "get", writer.operation("list", f"list{middle}{row.kind}", gvk, _list_of(row), _LIST)
    if "create" in row.verbs:
        yield "post", writer.operation("post", f"create{middle}{row.kind}", gvk, gvk, _WRITE, _BODIES)
    if "deletecollection" in row.verbs:
        name = f"delete{words[0]}Collection{middle.removeprefix(words[0])}{row.kind}"
        yield "delete", writer.operation("deletecollection", name, gvk, status, [*_DELETE, *_LIST], _BODIES)


def _item(row: ResourceRow, words: tuple[str, str], writer: _Writer) -> Iterator[tuple[str, Json]]:
    gvk = GVK(row.group, row.version, row.kind)
    middle = words[0] + ("Namespaced" if row.namespaced else "")
    yield from _changes(row.verbs, middle + row.kind, gvk, gvk, writer)
    if "delete" in row.verbs:
        status = GVK("", "v1", "Status")
        yield "delete", writer.operation("delete", f"delete{middle}{row.kind}", gvk, status, _DELETE, _BODIES)


def _sub(row: ResourceRow, sub: SubresourceRow, words: tuple[str, str], writer: _Writer) -> Iterator[tuple[str, Json]]:
    middle = words[0] + ("Namespaced" if row.namespaced else "")
    gvk, name = _sub_gvk(row, sub), f"{middle}{row.kind}{sub.name.capitalize()}"
    if not load().has(gvk):
        # Connect subresources (proxy): the verbs are methods, and what they answer is the target's.
        methods = {"create": "post", "delete": "delete", "get": "get", "patch": "patch", "update": "put"}
        for verb in sub.verbs:
            yield methods[verb], writer.operation("connect", f"connect{verb.capitalize()}{name}", gvk, gvk, ())
        return
    yield from _changes(sub.verbs, name, gvk, gvk, writer)
    if "create" in sub.verbs:
        yield "post", writer.operation("post", f"create{name}", gvk, gvk, _WRITE, _BODIES)


def _changes(verbs: Iterable[str], name: str, gvk: GVK, answer: GVK, writer: _Writer) -> Iterator[tuple[str, Json]]:
    if "get" in verbs:
        yield "get", writer.operation("get", f"read{name}", gvk, answer, ())
    if "update" in verbs:
        yield "put", writer.operation("put", f"replace{name}", gvk, answer, _WRITE, _BODIES)
    if "patch" in verbs:
        yield "patch", writer.operation("patch", f"patch{name}", gvk, answer, [*_WRITE, "force"], _PATCHES)
