"""The paths in OpenAPI documents: the operations on each type and its subresources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hatchway.cluster.api.describe.openapi_custom import custom_name
from hatchway.cluster.api.describe.openapi_schemas import V3_REFERENCES, list_gvk, subresource_gvk
from hatchway.cluster.api.registry.resource import Resource, Subresource
from hatchway.cluster.api.registry.schema.table import GVK, load, openapi_name

__all__ = ["group_version_path", "openapi_paths"]

Json = dict[str, Any]

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


def group_version_path(gv: tuple[str, str]) -> str:
    """Return the path of a group version without the first slash: `api/v1`, `apis/apps/v1`."""
    group, version = gv
    return f"apis/{group}/{version}" if group else f"api/{version}"


class _OperationWriter:
    """Writes operations in the format of v2 or v3. rows: the types whose operations are written."""

    def __init__(self, prefix: str, rows: Iterable[Resource]) -> None:
        self.prefix = prefix
        self.v3 = prefix == V3_REFERENCES
        self.custom = {gvk for row in rows if row.own_schema is not None for gvk in (GVK(*row.gvk), list_gvk(row))}

    def operation(
        self, action: str, name: str, gvk: GVK, answer: GVK, query: Iterable[str], bodies: Iterable[str] = ()
    ) -> Json:
        """Return one operation.

        action: Kubernetes' verb.
        name: the operation's id.
        gvk: the group, version and kind of the operation.
        answer: the type of the answer and, for a write, of the request's body.
        query: the names of the query parameters.
        bodies: the media types of the request's body.
        """
        found: Json = {
            "operationId": name,
            "responses": self._responses(answer),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": gvk.group, "kind": gvk.kind, "version": gvk.version},
        }
        parameters = [self._parameter(one, "query", _QUERY[one]) for one in query]
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


def openapi_paths(gv: tuple[str, str], rows: list[Resource], prefix: str) -> Json:
    """Return the paths of the types of a group version. prefix: the beginning of references to definitions."""
    writer = _OperationWriter(prefix, rows)
    base = "/" + group_version_path(gv)
    found: Json = {}
    for row in rows:
        scope = f"{base}/namespaces/{{namespace}}" if row.namespaced else base
        names = ["namespace"] if row.namespaced else []
        words = _words(row)
        collection = f"{scope}/{row.plural}"
        if row.namespaced and "list" in row.verbs:
            gvk = GVK(row.group, row.version, row.kind)
            listing = writer.operation("list", f"list{words[0]}{words[1]}ForAllNamespaces", gvk, list_gvk(row), _LIST)
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


def _collection(row: Resource, words: tuple[str, str], writer: _OperationWriter) -> Iterator[tuple[str, Json]]:
    gvk = GVK(row.group, row.version, row.kind)
    middle = words[0] + ("Namespaced" if row.namespaced else "")
    status = GVK("", "v1", "Status")
    if "list" in row.verbs:
        yield "get", writer.operation("list", f"list{middle}{row.kind}", gvk, list_gvk(row), _LIST)
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
    gvk, name = subresource_gvk(row, sub), f"{middle}{row.kind}{sub.name.capitalize()}"
    if sub.connect is not None and sub.connect.takes_path:
        # The verbs of a proxy are HTTP methods. The type of the answer is not known, because the target answers.
        methods = {"create": "post", "delete": "delete", "get": "get", "patch": "patch", "update": "put"}
        for verb in sub.verbs:
            yield methods[verb], writer.operation("connect", f"connect{verb.capitalize()}{name}", gvk, gvk, ())
        return
    # The operations on the scale of a custom type have the type's kind; those of a built-in type have the kind Scale.
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
