"""Checks an object against the schema of its type, finds unknown fields, and makes the object that is stored.

The results are the same as in Kubernetes, which decodes JSON into Go structs and encodes them again. A value of a wrong
type is an error 400. Unknown fields are reported (fieldValidation) and dropped. Null and empty optional values are
dropped. Quantities and times get their canonical spelling. The messages are those of `sigs.k8s.io/json` and apiserver's
`handlers/rest.go`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.registry.schema.scalars import (
    canonical_bytes,
    canonical_micro_time,
    canonical_quantity,
    canonical_time,
)
from hatchway.cluster.api.registry.schema.table import GVK, Field, TypeDefinition, UnknownKind, load
from hatchway.errors import ApiError, bad_request

__all__ = ["MAX_STRICT_ERRORS", "CheckedObject", "FieldPath", "ShapeError", "check", "check_part", "show_path"]

Json = Any
# A pair: path of the parent, name or index. Paths are needed only for messages, so creating them must be cheap.
FieldPath = tuple[Any, str | int] | None

MAX_STRICT_ERRORS = 100
_INT32 = 2**31
_INT64 = 2**63
_GO = {"string": "string", "bytes": "[]uint8", "boolean": "bool", "int32": "int32", "int64": "int64",
       "double": "float64", "time": "v1.Time", "microTime": "v1.MicroTime", "quantity": "resource.Quantity",
       "intOrString": "intstr.IntOrString", "raw": "runtime.RawExtension", "strings": "[]string",
       "json": "v1.JSON", "schemaOrList": "v1.JSONSchemaPropsOrArray", "schemaOrBoolean": "v1.JSONSchemaPropsOrBool",
       "schemaOrStrings": "v1.JSONSchemaPropsOrStringArray"}  # fmt: skip
# A value of these kinds is either a message or a value of this Python type.
_ALTERNATIVES: dict[str, type] = {"schemaOrList": list, "schemaOrBoolean": bool, "schemaOrStrings": list}


class ShapeError(ApiError):
    """An error 400: the object does not fit its type.

    why: the reason, without the words `X in version V cannot be handled as a X`.
    """

    def __init__(self, gvk: GVK, why: str) -> None:
        super().__init__(
            400, "BadRequest", f'{gvk.kind} in version "{gvk.version}" cannot be handled as a {gvk.kind}: {why}'
        )
        self.why = why


@dataclass(frozen=True, slots=True)
class CheckedObject:
    """An object that has passed the check.

    object: the object to store, a new dictionary that shares nothing mutable with the input except raw extensions.
    unknown: a message for each field that was dropped, such as `unknown field "spec.foo"`. With fieldValidation=Warn
        these are the warnings.
    """

    object: dict[str, Any]
    unknown: tuple[str, ...]

    def require_strict(self, gvk: tuple[str, str, str], errors: tuple[str, ...] = ()) -> None:
        """Raise ShapeError 400 when there are unknown or duplicate fields (fieldValidation=Strict).

        errors: the errors in the document (`strict_errors`); () when there are only unknown fields.
        """
        found = errors or self.unknown
        if found:
            raise ShapeError(GVK(*gvk), "strict decoding error: " + ", ".join(found))


class _Mismatch(Exception):
    pass


def check(gvk: tuple[str, str, str], obj: Json) -> CheckedObject:
    """Check `obj` against the type `gvk`, and return it without the fields that are dropped.

    The result has the apiVersion and kind of `gvk`. Raises ShapeError (400) when a value has the wrong type, ApiError
    400 for a kind that is not in the table.
    """
    kind = GVK(*gvk)
    try:
        message = load().message(gvk)
    except UnknownKind as error:
        raise bad_request(str(error)) from None
    unknown: list[str] = []
    try:
        kept = _object(message, obj, None, unknown)
    except _Mismatch as error:
        raise ShapeError(kind, str(error)) from None
    kept.pop("apiVersion", None)
    kept.pop("kind", None)
    return CheckedObject({"apiVersion": kind.api_version, "kind": kind.kind, **kept}, tuple(unknown))


def check_part(definition: str, value: Json, path: FieldPath = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Check a part of an object, such as its metadata.

    Args:
        definition: the name of its type in the table, such as `meta.v1.ObjectMeta`.
        value: the part.
        path: the path of the part in its object, for messages.

    Returns:
        The part without the fields that are dropped, and a message for each unknown field.

    Raises:
        ValueError: a value has the wrong type; the text is the reason.
    """
    unknown: list[str] = []
    try:
        kept = _object(load().message(definition), value, path, unknown)
    except _Mismatch as error:
        raise ValueError(str(error)) from None
    return kept, tuple(unknown)


def _object(
    message: TypeDefinition,
    value: Json,
    path: FieldPath,
    unknown: list[str],
    owner: TypeDefinition | None = None,
    owned: Field | None = None,
) -> dict[str, Any]:
    """Check an object. owner, owned: the type and the field that contain the object, for messages."""
    if type(value) is not dict:
        if value is None:
            value = {}
        elif owner is None or owned is None:
            raise _wrong(value, f"Go value of type {message.go}")
        else:
            raise _wrong(value, _where(owner, owned, path))
    fields = message.fields
    kept: dict[str, Any] = {}
    for name, one in value.items():
        field = fields.get(name)
        if field is None:
            if len(unknown) < MAX_STRICT_ERRORS:
                unknown.append(f'unknown field "{show_path((path, name))}"')
            continue
        if one is None:
            continue
        container = field.container
        if not container:
            if field.kind == "message":
                kept[name] = _object(_ref(field), one, (path, name), unknown, message, field)
                continue
            if field.kind in _ALTERNATIVES:
                kept[name] = _alternative(message, field, one, (path, name), unknown)
                continue
            found = _scalar(message, field, one, (path, name))
            if found or field.pointer or field.required or field.kind in _KEPT_EMPTY:
                kept[name] = found
        elif container == "list":
            if type(one) is not list:
                raise _wrong(one, _where(message, field, (path, name), _go_of(field)))
            if one or field.required or field.pointer:
                kept[name] = _list(message, field, one, (path, name), unknown)
        else:
            if type(one) is not dict:
                raise _wrong(one, _where(message, field, (path, name), _go_of(field)))
            if one or field.required or field.pointer:
                kept[name] = _map(message, field, one, (path, name), unknown)
    for field in message.always:
        if field.name not in kept:
            # Some objects are always written, even in an empty object: status.loadBalancer of a Service.
            kept[field.name] = _object(_ref(field), {}, path, unknown)
    return kept


def _list(message: TypeDefinition, field: Field, value: list[Any], path: FieldPath, unknown: list[str]) -> list[Any]:
    if field.kind == "message":
        ref = _ref(field)
        return [_object(ref, one, (path, index), unknown, message, field) for index, one in enumerate(value)]
    return [_scalar(message, field, one, path) for one in value]


def _map(
    message: TypeDefinition, field: Field, value: dict[str, Any], path: FieldPath, unknown: list[str]
) -> dict[str, Any]:
    if field.kind == "message":
        ref = _ref(field)
        return {key: _object(ref, one, (path, key), unknown, message, field) for key, one in value.items()}
    if field.kind in _ALTERNATIVES:
        return {key: _alternative(message, field, one, (path, key), unknown) for key, one in value.items()}
    if field.kind == "string":
        # Labels, annotations and data: this loop runs most often, so it is short.
        kept = {}
        for key, one in value.items():
            if type(one) is not str:
                one = _scalar(message, field, one, path)
            kept[key] = one
        return kept
    return {key: _scalar(message, field, one, path) for key, one in value.items()}


def _alternative(message: TypeDefinition, field: Field, value: Json, path: FieldPath, unknown: list[str]) -> Json:
    """Check a value of a kind in `_ALTERNATIVES` (apiextensions' `v1/marshal.go`)."""
    ref, other = _ref(field), _ALTERNATIVES[field.kind]
    if type(value) is dict:
        return _object(ref, value, path, unknown, message, field)
    if type(value) is other is bool:
        return value
    if type(value) is list and other is list:
        if field.kind == "schemaOrStrings":
            return [one if type(one) is str else _not_a_string(message, field, one, path) for one in value]
        return [_object(ref, one, (path, index), unknown, message, field) for index, one in enumerate(value)]
    if other is bool:
        raise _Mismatch("boolean or JSON schema expected")
    raise _wrong(value, _where(message, field, path))


def _not_a_string(message: TypeDefinition, field: Field, value: Json, path: FieldPath) -> str:
    if value is None:
        return ""
    raise _wrong(value, _where(message, field, path, "string"))


def _ref(field: Field) -> TypeDefinition:
    return load().definitions[field.ref]


_ZERO: dict[str, Any] = {"string": "", "bytes": "", "boolean": False, "int32": 0, "int64": 0, "double": 0,
         "quantity": "0", "intOrString": 0, "time": None, "microTime": None, "raw": None, "json": None,
         "strings": []}  # fmt: skip
# These kinds are structs in Go, and `omitempty` does not leave out empty structs.
_KEPT_EMPTY = frozenset(("intOrString", "json", "quantity", "raw"))
_TEXT: dict[str, Callable[[Any], str]] = {
    "time": canonical_time,
    "microTime": canonical_micro_time,
    "bytes": canonical_bytes,
}


def _scalar(message: TypeDefinition, field: Field, value: Json, path: FieldPath) -> Json:
    kind, given = field.kind, type(value)
    if kind == "string":
        if given is str:
            return value
    elif kind == "int32" or kind == "int64":
        if given is int:
            limit = _INT32 if kind == "int32" else _INT64
            if -limit <= value < limit:
                return value
        if given is int or given is float:
            raise _wrong(value, _where(message, field, path), number=True)
    elif kind == "boolean":
        if given is bool:
            return value
    elif kind == "quantity":
        if given is str or given is int or given is float:
            return _canonical(canonical_quantity, value)
        if value is not None:
            raise _Mismatch(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            )
    elif kind == "intOrString":
        if given is str or (given is int and -_INT32 <= value < _INT32):
            return value
        if value is not None:
            raise _wrong(value, "Go value of type int32", number=given is int or given is float)
    elif kind in _TEXT:
        if given is str:
            return _canonical(_TEXT[kind], value)
        if value is not None and kind != "bytes":
            raise _wrong(value, "Go value of type string")
    elif kind == "double":
        if given is float or given is int:
            return value
    elif kind == "raw" or kind == "json":
        return value
    elif kind == "strings" and given is list:
        for one in value:
            if type(one) is not str and one is not None:
                raise _wrong(one, _where(message, field, path, "string"))
        return [one or "" for one in value]
    if value is None:
        return _ZERO[kind]
    raise _wrong(value, _where(message, field, path))


def _canonical(function: Callable[[Any], str], value: Json) -> str:
    try:
        return function(value)
    except ValueError as error:
        raise _Mismatch(str(error)) from None


def _json_type(value: Json) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _wrong(value: Json, where: str, *, number: bool = False) -> _Mismatch:
    shown = f"number {json.dumps(value)}" if number else _json_type(value)
    return _Mismatch(f"json: cannot unmarshal {shown} into {where}")


def _element(field: Field) -> str:
    """Return the Go type of one element of a field."""
    if field.kind == "message":
        return load().definitions[field.ref].go
    go = field.go
    if field.container == "list":
        return go.removeprefix("[]") or _GO[field.kind]
    if field.container == "map":
        return go.partition("]")[2] if go.startswith("map[") else _GO[field.kind]
    return go or _GO[field.kind]


def _go_of(field: Field) -> str:
    """Return the Go type of a field that is a list or a map."""
    if field.go:
        return field.go
    return ("[]" if field.container == "list" else "map[string]") + _element(field)


def _where(message: TypeDefinition, field: Field, path: FieldPath, go: str = "") -> str:
    names = show_path(path, indexes=False)
    return f"Go struct field {message.go.partition('.')[2]}.{names} of type {go or _element(field)}"


def show_path(path: FieldPath, *, indexes: bool = True) -> str:
    """Return a path as messages write it: `spec.containers[0].name`. indexes: False leaves out `[0]`."""
    parts: list[str] = []
    while path is not None:
        path, step = path
        if isinstance(step, str):
            parts.append(f".{step}")
        elif indexes:
            parts.append(f"[{step}]")
    return "".join(reversed(parts)).removeprefix(".")
