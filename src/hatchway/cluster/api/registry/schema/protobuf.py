r"""Decodes objects in Kubernetes' protobuf encoding by the schema table: request bodies of kubectl and typed clients.

A body is the magic number `k8s\0` and a `runtime.Unknown` (apimachinery's `runtime/serializer/protobuf`). The
`runtime.Unknown` contains the TypeMeta and the raw message. The result has the shape of JSON. Bodies are not trusted:
lengths, depths, wire types and numbers are checked, and a length sent by a client never causes an allocation.
"""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from hatchway.cluster.api.registry.schema.scalars import canonical_quantity
from hatchway.cluster.api.registry.schema.table import GVK, Field, Inline, TypeDefinition, UnknownKind, load
from hatchway.cluster.api.registry.schema.wireformat import I32, I64, LEN, MAGIC, VARINT
from hatchway.cluster.api.work import MAX_VALUES, check_values, too_many_values
from hatchway.errors import bad_request

__all__ = ["decode_protobuf"]

_MAX_DEPTH = 100
_WIRE = {"boolean": VARINT, "int32": VARINT, "int64": VARINT, "double": I64}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_double = struct.Struct("<d")


class _Malformed(Exception):
    pass


class _DecodeBudget:
    """Counts how many more fields a body may have.

    Without this limit, a body could have very many fields, because a field may take only two bytes.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def use(self, count: int) -> None:
        """Take `count` fields from the budget. Raises ApiError 413 when the budget is used up."""
        self.left -= count
        if self.left < 0:
            raise too_many_values()


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift >= 64:
            raise _Malformed("proto: integer overflow")
    raise _Malformed("unexpected EOF")


def _skip(data: bytes, at: int, end: int, wire: int) -> int:
    if wire == VARINT:
        return _varint(data, at, end)[1]
    if wire == LEN:
        length, at = _varint(data, at, end)
        at += length
    elif wire == I64:
        at += 8
    elif wire == I32:
        at += 4
    else:
        raise _Malformed(f"proto: illegal wireType {wire}")
    if at > end:
        raise _Malformed("unexpected EOF")
    return at


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _pairs(data: bytes, at: int, end: int, budget: _DecodeBudget) -> list[tuple[int, int, int, int]]:
    """Return the fields of a small message as (number, wire type, value or start offset, end offset)."""
    found = []
    while at < end:
        budget.use(1)
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at, end)
            found.append((number, wire, value, at))
        else:
            start = at
            at = _skip(data, at, end, wire)
            if wire == LEN:
                _, start = _varint(data, start, end)
            found.append((number, wire, start, at))
    return found


def decode_protobuf(body: bytes) -> dict[str, Any]:
    """Return the object in a protobuf body, in the shape of JSON, with the apiVersion and kind that the body names.

    Empty optional values are left out, as in Kubernetes' JSON. Raises ApiError 400 for a malformed body or a kind that
    is not in the table, 413 for more than MAX_VALUES fields.
    """
    try:
        return _envelope(body, 0, _DecodeBudget())
    except _Malformed as error:
        raise bad_request(f"the body of the request is not a valid protobuf object: {error}") from None


def _envelope(body: bytes, depth: int, budget: _DecodeBudget) -> dict[str, Any]:
    if body[:4] != MAGIC:
        raise _Malformed("it does not begin with the magic number of Kubernetes' protobuf encoding")
    api_version = kind = ""
    start = end = 0
    for number, wire, value, stop in _pairs(body, 4, len(body), budget):
        if number in (1, 2, 3, 4) and wire != LEN:
            raise _Malformed(f"proto: wrong wireType = {wire} for field {number} of Unknown")
        if number == 1:
            for inner, inner_wire, inner_value, inner_stop in _pairs(body, value, stop, budget):
                if inner_wire == LEN:
                    text = body[inner_value:inner_stop].decode("utf-8", "replace")
                    api_version, kind = (text, kind) if inner == 1 else (api_version, text if inner == 2 else kind)
        elif number == 2:
            start, end = value, stop
        elif number == 3 and stop > value:
            raise _Malformed("the raw message is encoded in an unknown way")
    gvk = GVK.of(api_version, kind)
    try:
        message = load().message(gvk)
    except UnknownKind as error:
        raise _Malformed(str(error)) from None
    fields: dict[str, Any] = {}
    _message(message, body, start, end, fields, depth + 1, budget)
    fields.pop("kind", None)
    fields.pop("apiVersion", None)
    return {"apiVersion": api_version, "kind": kind, **fields}


def _message(
    message: TypeDefinition, data: bytes, at: int, end: int, into: dict[str, Any], depth: int, budget: _DecodeBudget
) -> None:
    if depth > _MAX_DEPTH:
        raise _Malformed("nested too deep")
    numbers = message.numbers
    while at < end:
        budget.use(1)
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise _Malformed(f"proto: {message.go}: illegal tag 0")
        field = numbers.get(number)
        if field is None:
            at = _skip(data, at, end, wire)
            continue
        if isinstance(field, Inline):
            _expect(message, "an embedded struct", wire, LEN)
            start, at = _span(data, at, end)
            _message(load().definitions[field.ref], data, start, at, into, depth + 1, budget)
            continue
        expected = _WIRE.get(field.kind, LEN)
        if field.container == "map":
            _expect(message, field.name, wire, LEN)
            start, at = _span(data, at, end)
            key, value = _entry(message, field, data, start, at, depth, budget)
            into.setdefault(field.name, {})[key] = value
        elif field.container == "list":
            found = into.setdefault(field.name, [])
            if wire == LEN and expected != LEN:
                start, at = _span(data, at, end)
                while start < at:
                    budget.use(1)
                    value, start = _scalar(field, data, start, at, expected)
                    found.append(value)
            elif field.kind == "message":
                _expect(message, field.name, wire, LEN)
                start, at = _span(data, at, end)
                inner: dict[str, Any] = {}
                _message(load().definitions[field.ref], data, start, at, inner, depth + 1, budget)
                found.append(inner)
            else:
                _expect(message, field.name, wire, expected)
                value, at = _value(field, data, at, end, depth, budget)
                found.append(value)
        elif field.kind == "message":
            _expect(message, field.name, wire, LEN)
            start, at = _span(data, at, end)
            # If a message appears twice, the two are merged, as in Go's generated code.
            inner = into.setdefault(field.name, {})
            _message(load().definitions[field.ref], data, start, at, inner, depth + 1, budget)
        else:
            _expect(message, field.name, wire, expected)
            value, at = _value(field, data, at, end, depth, budget)
            if value is None or (
                not value and not field.pointer and not field.required and field.kind != "intOrString"
            ):
                into.pop(field.name, None)
            else:
                into[field.name] = value


def _expect(message: TypeDefinition, name: str, wire: int, expected: int) -> None:
    if wire != expected:
        raise _Malformed(f"proto: wrong wireType = {wire} for field {name} of {message.go}")


def _span(data: bytes, at: int, end: int) -> tuple[int, int]:
    length, at = _varint(data, at, end)
    if length > end - at:
        raise _Malformed("unexpected EOF")
    return at, at + length


def _entry(
    message: TypeDefinition, field: Field, data: bytes, at: int, end: int, depth: int, budget: _DecodeBudget
) -> tuple[str, Any]:
    key, value = "", None
    while at < end:
        budget.use(1)
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 1:
            _expect(message, field.name, wire, LEN)
            start, at = _span(data, at, end)
            key = data[start:at].decode("utf-8", "replace")
        elif number == 2:
            _expect(message, field.name, wire, _WIRE.get(field.kind, LEN))
            value, at = _value(field, data, at, end, depth, budget)
        else:
            at = _skip(data, at, end, wire)
    if value is None:
        value, _ = _value(field, b"\x00", 0, 1, depth, budget)
    return key, value


def _value(field: Field, data: bytes, at: int, end: int, depth: int, budget: _DecodeBudget) -> tuple[Any, int]:
    """Decode one value whose wire type has been checked. Return the value (None for a zero time) and the end offset."""
    kind = field.kind
    wire = _WIRE.get(kind, LEN)
    if wire != LEN:
        return _scalar(field, data, at, end, wire)
    start, at = _span(data, at, end)
    if kind == "string":
        return data[start:at].decode("utf-8", "replace"), at
    if kind == "message":
        inner: dict[str, Any] = {}
        _message(load().definitions[field.ref], data, start, at, inner, depth + 1, budget)
        return inner, at
    if kind == "bytes":
        return base64.b64encode(data[start:at]).decode(), at
    parts = _pairs(data, start, at, budget)
    if kind in ("schemaOrList", "schemaOrBoolean", "schemaOrStrings"):
        return _alternative(field, data, parts, depth, budget), at
    if kind == "raw" or kind == "json":
        raw = next((data[one:stop] for number, wire, one, stop in parts if number == 1 and wire == LEN), b"")
        return _raw(raw, depth, budget), at
    if kind == "quantity":
        text = next((data[one:stop] for number, wire, one, stop in parts if number == 1 and wire == LEN), b"0")
        try:
            return canonical_quantity(text.decode("utf-8", "replace")), at
        except ValueError as error:
            raise _Malformed(str(error)) from None
    if kind == "strings":
        return [
            data[one:stop].decode("utf-8", "replace")
            for number, wire, one, stop in parts
            if number == 1 and wire == LEN
        ], at
    if kind == "intOrString":
        numbers = {number: one for number, wire, one, _ in parts if wire == VARINT}
        if numbers.get(1, 0) == 0:
            return _signed(numbers.get(2, 0), 32), at
        text = next((data[one:stop] for number, wire, one, stop in parts if number == 3 and wire == LEN), b"")
        return text.decode("utf-8", "replace"), at
    return _time(kind, start, at, parts), at


def _alternative(
    field: Field, data: bytes, parts: list[tuple[int, int, int, int]], depth: int, budget: _DecodeBudget
) -> Any:
    """Decode a value of the kind schemaOrList, schemaOrBoolean or schemaOrStrings (`v1/generated.proto`)."""
    definition = load().definitions[field.ref]
    boolean = field.kind == "schemaOrBoolean"
    schemas: list[dict[str, Any]] = []
    texts: list[str] = []
    single = allowed = False
    for number, wire, one, stop in parts:
        if boolean and number == 1 and wire == VARINT:
            allowed = one != 0
        elif wire != LEN:
            raise _Malformed(f"proto: wrong wireType = {wire} for field {field.name}")
        elif field.kind == "schemaOrStrings" and number == 2:
            texts.append(data[one:stop].decode("utf-8", "replace"))
        else:
            single = single or boolean or number == 1
            schemas.append({})
            _message(definition, data, one, stop, schemas[-1], depth + 1, budget)
    if schemas:
        return schemas[0] if single else schemas
    return texts if field.kind != "schemaOrBoolean" else allowed


def _scalar(field: Field, data: bytes, at: int, end: int, wire: int) -> tuple[Any, int]:
    if wire == I64:
        if end - at < 8:
            raise _Malformed("unexpected EOF")
        return _double.unpack_from(data, at)[0], at + 8
    number, at = _varint(data, at, end)
    if field.kind == "boolean":
        return number != 0, at
    return _signed(number, 32 if field.kind == "int32" else 64), at


def _raw(raw: bytes, depth: int, budget: _DecodeBudget) -> Any:
    if not raw:
        return None
    if raw[:4] == MAGIC:
        if depth > _MAX_DEPTH:
            raise _Malformed("nested too deep")
        return _envelope(raw, depth + 1, budget)
    check_values(raw)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _Malformed(f"a raw extension is not JSON: {error}") from None


def _time(kind: str, start: int, end: int, parts: list[tuple[int, int, int, int]]) -> str | None:
    if start == end:
        return None
    numbers = {number: one for number, wire, one, _ in parts if wire == VARINT}
    seconds, nanos = _signed(numbers.get(1, 0), 64), _signed(numbers.get(2, 0), 32)
    try:
        found = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000 if kind == "microTime" else 0)
    except OverflowError:
        raise _Malformed("a time is out of range") from None
    text = f"{found.year:04d}{found:-%m-%dT%H:%M:%S}"
    return f"{text}.{found.microsecond:06d}Z" if kind == "microTime" else f"{text}Z"
