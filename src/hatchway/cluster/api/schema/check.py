"""Validation by shape: does an object fit its type, which fields are unknown, what does the server keep of it.

What Kubernetes gets from decoding JSON into Go structs and encoding them again, from the table alone: wrong types are
400, unknown fields are reported (fieldValidation) and dropped, null and empty optional values vanish, quantities and
times take their canonical spelling. Wording as in `sigs.k8s.io/json` and apiserver's `handlers/rest.go`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.schema.scalars import (
    canonical_bytes,
    canonical_micro_time,
    canonical_quantity,
    canonical_time,
)
from hatchway.cluster.api.schema.table import GVK, Field, Message, UnknownKind, load
from hatchway.errors import ApiError, bad_request

__all__ = ["MAX_STRICT_ERRORS", "Checked", "Path", "ShapeError", "check", "show_path"]

Json = Any
# (parent, name or index): made on the way down for nothing but a message, so as cheap as possible.
Path = tuple[Any, str | int] | None

MAX_STRICT_ERRORS = 100
_INT32 = 2**31
_INT64 = 2**63
_GO = {"string": "string", "bytes": "[]uint8", "boolean": "bool", "int32": "int32", "int64": "int64", "double": "float64",
       "time": "v1.Time", "microTime": "v1.MicroTime", "quantity": "resource.Quantity", "intOrString": "intstr.IntOrString",
       "raw": "runtime.RawExtension", "strings": "[]string"}  # fmt: skip


class ShapeError(ApiError):
    """400: the object does not fit its type. `why` is the bare reason, without `X in version V cannot be handled as`."""

    def __init__(self, gvk: GVK, why: str) -> None:
        super().__init__(
            400, "BadRequest", f'{gvk.kind} in version "{gvk.version}" cannot be handled as a {gvk.kind}: {why}'
        )
        self.why = why


@dataclass(frozen=True, slots=True)
class Checked:
    """object: what the server keeps, a new dictionary that shares nothing mutable with the input except raw extensions.

    unknown: one message for each field that was dropped, `unknown field "spec.foo"`: the warnings of
    fieldValidation=Warn.
    """

    object: dict[str, Any]
    unknown: tuple[str, ...]

    def strict(self, gvk: tuple[str, str, str], errors: tuple[str, ...] = ()) -> None:
        """fieldValidation=Strict: raise ShapeError 400 when there are unknown or duplicate fields.

        errors: what is wrong with the document (`strict_errors`), when that is more than unknown fields.
        """
        found = errors or self.unknown
        if found:
            raise ShapeError(GVK(*gvk), "strict decoding error: " + ", ".join(found))


class _Mismatch(Exception):
    pass


def check(gvk: tuple[str, str, str], obj: Json) -> Checked:
    """Check `obj` against the type `gvk` and return what is kept of it.

    The result has apiVersion and kind of `gvk`. Raises ShapeError (400) when a value has the wrong type, ApiError 400
    for a kind that the table does not know.
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
    return Checked({"apiVersion": kind.api_version, "kind": kind.kind, **kept}, tuple(unknown))


def _object(
    message: Message,
    value: Json,
    path: Path,
    unknown: list[str],
    owner: Message | None = None,
    owned: Field | None = None,
) -> dict[str, Any]:
    """owner, owned: the type and the field that `value` is the value of, for the message of an error."""
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
            # An empty object may hold objects that are always there in turn: status.loadBalancer of a Service.
            kept[field.name] = _object(_ref(field), {}, path, unknown)
    return kept


def _list(message: Message, field: Field, value: list[Any], path: Path, unknown: list[str]) -> list[Any]:
    if field.kind == "message":
        ref = _ref(field)
        return [_object(ref, one, (path, index), unknown, message, field) for index, one in enumerate(value)]
    return [_scalar(message, field, one, path) for one in value]


def _map(message: Message, field: Field, value: dict[str, Any], path: Path, unknown: list[str]) -> dict[str, Any]:
    if field.kind == "message":
        ref = _ref(field)
        return {key: _object(ref, one, (path, key), unknown, message, field) for key, one in value.items()}
    if field.kind == "string":
        # The hottest loop: labels, annotations, data.
        kept = {}
        for key, one in value.items():
            if type(one) is not str:
                one = _scalar(message, field, one, path)
            kept[key] = one
        return kept
    return {key: _scalar(message, field, one, path) for key, one in value.items()}


def _ref(field: Field) -> Message:
    return load().definitions[field.ref]


_ZERO: dict[str, Any] = {"string": "", "bytes": "", "boolean": False, "int32": 0, "int64": 0, "double": 0,
         "quantity": "0", "intOrString": 0, "time": None, "microTime": None, "raw": None, "strings": []}  # fmt: skip
# Structs in Go: omitempty does not leave them out.
_KEPT_EMPTY = frozenset(("intOrString", "quantity", "raw"))
_TEXT: dict[str, Callable[[Any], str]] = {
    "time": canonical_time,
    "microTime": canonical_micro_time,
    "bytes": canonical_bytes,
}


def _scalar(message: Message, field: Field, value: Json, path: Path) -> Json:
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
    elif kind == "raw":
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
    """The Go type of one element."""
    if field.kind == "message":
        return load().definitions[field.ref].go
    go = field.go
    if field.container == "list":
        return go.removeprefix("[]") or _GO[field.kind]
    if field.container == "map":
        return go.partition("]")[2] if go.startswith("map[") else _GO[field.kind]
    return go or _GO[field.kind]


def _go_of(field: Field) -> str:
    """The Go type of a whole list or map."""
    if field.go:
        return field.go
    return ("[]" if field.container == "list" else "map[string]") + _element(field)


def _where(message: Message, field: Field, path: Path, go: str = "") -> str:
    names = show_path(path, indexes=False)
    return f"Go struct field {message.go.partition('.')[2]}.{names} of type {go or _element(field)}"


def show_path(path: Path, *, indexes: bool = True) -> str:
    parts: list[str] = []
    while path is not None:
        path, step = path
        if isinstance(step, str):
            parts.append(f".{step}")
        elif indexes:
            parts.append(f"[{step}]")
    return "".join(reversed(parts)).removeprefix(".")
