"""Reads the part of a server's OpenAPI v2 document that describes a remote API (kube-aggregator `openapi/aggregator`).

The part becomes part of this server's `/openapi/v2`. Clients refuse a document that has any error. Therefore only
fields of the expected types are used, only the server of a group may describe its kinds, and a document with a
reference to a missing definition is refused as a whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.aggregation.remoteclient import RemoteClient, RemoteError
from hatchway.cluster.api.describe.remoteversions import RemoteDocument
from hatchway.cluster.api.work import check_values, run_apart
from hatchway.errors import ApiError

__all__ = ["read_openapi_v2", "select_openapi_v2"]

Json = dict[str, Any]

# The maximum number of bytes of a document, and of the part of it that is used.
_LIMIT = 2 * 1024 * 1024
_DEEPEST = 40
_LONGEST_NAME = 256
_REFERENCE = "#/definitions/"
_GVK = "x-kubernetes-group-version-kind"
_METHODS = ("get", "put", "post", "delete", "patch")
_NUMBERS = ("maximum", "minimum", "maxLength", "minLength", "maxItems", "minItems", "multipleOf")


async def read_openapi_v2(client: RemoteClient, api: RemoteApi) -> RemoteDocument | None:
    """Return the part of the server's document that describes the API; None when there is no usable document."""
    try:
        answer = await client.get(api, "/openapi/v2", limit=_LIMIT)
        if answer.status != 200:
            return None
        return await run_apart(select_openapi_v2, answer.body, api.group, api.version)
    except (RemoteError, ApiError):
        return None


def select_openapi_v2(body: bytes, group: str, version: str) -> RemoteDocument:
    """Return the paths of one version in a document, and the definitions that they need.

    Raises RemoteError, and ApiError for a document of too many values.
    """
    prefix = f"/apis/{group}/{version}/"
    check_values(body)
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"the OpenAPI document cannot be read: {error}") from error
    document = _KeptParts(_object(found), group)
    for path, item in _object(document.source.get("paths") or {}).items():
        if path.startswith(prefix) and len(path) <= 1024:
            document.paths[path] = document.path_item(_object(item))
    document.add_definitions()
    selected = RemoteDocument(document.paths, document.definitions)
    if len(msgspec.json.encode(selected)) > _LIMIT:
        raise RemoteError("the OpenAPI document is too large")
    return selected


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise RemoteError("the OpenAPI document has another value in place of an object")
    return value


def _shallow(value: Any, depth: int = 0) -> Any:
    """Return a value if its nesting is not too deep. Raises RemoteError."""
    if depth > _DEEPEST:
        raise RemoteError("the OpenAPI document is nested too deep")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _shallow(one, depth + 1)
    return value


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


class _KeptParts:
    """The part of a document that is kept."""

    def __init__(self, source: Json, group: str) -> None:
        self.source = source
        self._group = group
        self.paths: Json = {}
        self.definitions: Json = {}
        self._wanted: list[str] = []

    def add_definitions(self) -> None:
        """Add all definitions to which the kept parts refer. Raises RemoteError when a definition is missing."""
        source = _object(self.source.get("definitions") or {})
        while self._wanted:
            name = self._wanted.pop()
            if name not in self.definitions:
                if name not in source:
                    raise RemoteError("the OpenAPI document refers to a definition that it does not have")
                # The definition is stored before its contents are known, because it may refer to itself.
                self.definitions[name] = {}
                self.definitions[name] = self._schema(_object(source[name]))

    def path_item(self, item: Json) -> Json:
        found: Json = {
            method: self._operation(_object(item[method])) for method in _METHODS if isinstance(item.get(method), dict)
        }
        if parameters := self._parameters(item.get("parameters")):
            found["parameters"] = parameters
        return found

    def _operation(self, operation: Json) -> Json:
        responses: Json = {}
        for code, one in _object(operation.get("responses") or {}).items():
            response = _object(one)
            description = response.get("description")
            responses[code] = {"description": description if isinstance(description, str) else ""}
            if isinstance(response.get("schema"), dict):
                responses[code]["schema"] = self._schema(response["schema"])
        named = operation.get("operationId")
        found: Json = {"operationId": named if isinstance(named, str) else "", "responses": responses}
        for key in ("produces", "consumes", "tags"):
            if texts := _texts(operation.get(key)):
                found[key] = texts
        if parameters := self._parameters(operation.get("parameters")):
            found["parameters"] = parameters
        return found | self._extensions(operation)

    def _parameters(self, listed: Any) -> list[Json]:
        """Return parameters without their descriptions, which would be repeated in many operations."""
        shared = _object(self.source.get("parameters") or {})
        found = []
        for one in listed if isinstance(listed, list) else ():
            parameter = _object(one)
            if isinstance(reference := parameter.get("$ref"), str):
                parameter = _object(shared.get(reference.removeprefix("#/parameters/")) or {})
            name, place, kind = parameter.get("name"), parameter.get("in"), parameter.get("type")
            if not isinstance(name, str) or len(name) > _LONGEST_NAME:
                continue
            kept: Json = {"name": name, "in": place}
            if place == "body" and isinstance(parameter.get("schema"), dict):
                kept["schema"] = self._schema(parameter["schema"])
            elif place in ("query", "path") and kind in ("string", "integer", "boolean", "number"):
                kept["type"] = kind
            else:
                continue
            found.append(kept | {key: True for key in ("required", "uniqueItems") if parameter.get(key) is True})
        return found

    def _extensions(self, holder: Json) -> Json:
        """Return Kubernetes' extensions. Kinds of other groups are left out: their own servers describe them."""
        found = {key: _shallow(value) for key, value in holder.items() if key.startswith("x-kubernetes-")}
        kinds = found.pop(_GVK, None)
        if isinstance(kinds, dict) and kinds.get("group") == self._group:
            found[_GVK] = kinds
        if isinstance(kinds, list):
            own = [one for one in kinds if isinstance(one, dict) and one.get("group") == self._group]
            found |= {_GVK: own} if own else {}
        return found

    def _schema(self, schema: Json, depth: int = 0) -> Json:
        if depth > _DEEPEST:
            raise RemoteError("the OpenAPI document is nested too deep")
        found: Json = {}
        reference = schema.get("$ref")
        if reference is not None:
            if not isinstance(reference, str) or not reference.startswith(_REFERENCE):
                raise RemoteError("the OpenAPI document refers to something outside its definitions")
            found["$ref"] = reference
            self._wanted.append(reference.removeprefix(_REFERENCE))
        for key in ("format", "description", "type", "pattern"):
            if isinstance(schema.get(key), str):
                found[key] = schema[key]
        found |= {key: schema[key] for key in _NUMBERS if isinstance(schema.get(key), int | float)}
        found |= {key: _shallow(schema[key]) for key in ("default",) if key in schema}
        found |= self._extensions(schema)
        if required := _texts(schema.get("required")):
            found["required"] = required
        if isinstance(schema.get("enum"), list):
            found["enum"] = _shallow(schema["enum"])
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                found[key] = self._schema(schema[key], depth + 1)
        if isinstance(schema.get("properties"), dict):
            found["properties"] = {
                name: self._schema(_object(one), depth + 1) for name, one in schema["properties"].items()
            }
        return found
