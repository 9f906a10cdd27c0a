"""Kubernetes' protobuf encoding of objects, driven by the table: request bodies of kubectl and typed clients.

A body is the magic `k8s\\0` and a `runtime.Unknown` (apiMachinery's `runtime/serializer/protobuf`): the TypeMeta and the
raw message. Decoding gives the JSON shape, encoding takes it. Bodies come from anyone: lengths, depths, wire types
and numbers are checked, and nothing is allocated from a number that a client wrote.
"""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from hatchway.cluster.api.schema.scalars import canonical_micro_time, canonical_quantity, canonical_time
from hatchway.cluster.api.schema.table import GVK, Field, Inline, Message, UnknownKind, load
from hatchway.errors import bad_request

__all__ = ["MAGIC", "MEDIA_TYPE", "decode_protobuf", "encode_protobuf", "length_delimited"]

MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAX_DEPTH = 100
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_WIRE = {"boolean": _VARINT, "int32": _VARINT, "int64": _VARINT, "double": _I64}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_double = struct.Struct("<d")


class _Malformed(Exception):
    pass


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
    if wire == _VARINT:
        return _varint(data, at, end)[1]
    if wire == _LEN:
        length, at = _varint(data, at, end)
        at += length
    elif wire == _I64:
        at += 8
    elif wire == _I32:
        at += 4
    else:
        raise _Malformed(f"proto: illegal wireType {wire}")
    if at > end:
        raise _Malformed("unexpected EOF")
    return at


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _pairs(data: bytes, at: int, end: int) -> list[tuple[int, int, int, int]]:
    """The fields of a small message: (number, wire type, value or start, end)."""
    found = []
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            found.append((number, wire, value, at))
        else:
            start = at
            at = _skip(data, at, end, wire)
            if wire == _LEN:
                _, start = _varint(data, start, end)
            found.append((number, wire, start, at))
    return found


def decode_protobuf(body: bytes) -> dict[str, Any]:
    """The object in a protobuf body, JSON-shaped, with its apiVersion and kind as the body names them.

    Values that Go leaves out of JSON (empty optional ones) are left out. Raises ApiError 400 for anything malformed
    or of a kind that the table does not know.
    """
    try:
        return _envelope(body, 0)
    except _Malformed as error:
        raise bad_request(f"the body of the request is not a valid protobuf object: {error}") from None


def _envelope(body: bytes, depth: int) -> dict[str, Any]:
    if body[:4] != MAGIC:
        raise _Malformed("it does not begin with the magic number of Kubernetes' protobuf encoding")
    api_version = kind = ""
    start = end = 0
    for number, wire, value, stop in _pairs(body, 4, len(body)):
        if number in (1, 2, 3, 4) and wire != _LEN:
            raise _Malformed(f"proto: wrong wireType = {wire} for field {number} of Unknown")
        if number == 1:
            for inner, inner_wire, inner_value, inner_stop in _pairs(body, value, stop):
                if inner_wire == _LEN:
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
    _message(message, body, start, end, fields, depth + 1)
    fields.pop("kind", None)
    fields.pop("apiVersion", None)
    return {"apiVersion": api_version, "kind": kind, **fields}


def _message(message: Message, data: bytes, at: int, end: int, into: dict[str, Any], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _Malformed("nested too deep")
    numbers = message.numbers
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise _Malformed(f"proto: {message.go}: illegal tag 0")
        field = numbers.get(number)
        if field is None:
            at = _skip(data, at, end, wire)
            continue
        if isinstance(field, Inline):
            _expect(message, "an embedded struct", wire, _LEN)
            start, at = _span(data, at, end)
            _message(load().definitions[field.ref], data, start, at, into, depth + 1)
            continue
        expected = _WIRE.get(field.kind, _LEN)
        if field.container == "map":
            _expect(message, field.name, wire, _LEN)
            start, at = _span(data, at, end)
            key, value = _entry(message, field, data, start, at, depth)
            into.setdefault(field.name, {})[key] = value
        elif field.container == "list":
            found = into.setdefault(field.name, [])
            if wire == _LEN and expected != _LEN:
                start, at = _span(data, at, end)
                while start < at:
                    value, start = _scalar(field, data, start, at, expected)
                    found.append(value)
            elif field.kind == "message":
                _expect(message, field.name, wire, _LEN)
                start, at = _span(data, at, end)
                inner: dict[str, Any] = {}
                _message(load().definitions[field.ref], data, start, at, inner, depth + 1)
                found.append(inner)
            else:
                _expect(message, field.name, wire, expected)
                value, at = _value(field, data, at, end, depth)
                found.append(value)
        elif field.kind == "message":
            _expect(message, field.name, wire, _LEN)
            start, at = _span(data, at, end)
            # A message that comes twice is merged, as generated code does.
            inner = into.setdefault(field.name, {})
            _message(load().definitions[field.ref], data, start, at, inner, depth + 1)
        else:
            _expect(message, field.name, wire, expected)
            value, at = _value(field, data, at, end, depth)
            if value is None or (
                not value and not field.pointer and not field.required and field.kind != "intOrString"
            ):
                into.pop(field.name, None)
            else:
                into[field.name] = value


def _expect(message: Message, name: str, wire: int, expected: int) -> None:
    if wire != expected:
        raise _Malformed(f"proto: wrong wireType = {wire} for field {name} of {message.go}")


def _span(data: bytes, at: int, end: int) -> tuple[int, int]:
    length, at = _varint(data, at, end)
    if length > end - at:
        raise _Malformed("unexpected EOF")
    return at, at + length


def _entry(message: Message, field: Field, data: bytes, at: int, end: int, depth: int) -> tuple[str, Any]:
    key, value = "", None
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 1:
            _expect(message, field.name, wire, _LEN)
            start, at = _span(data, at, end)
            key = data[start:at].decode("utf-8", "replace")
        elif number == 2:
            _expect(message, field.name, wire, _WIRE.get(field.kind, _LEN))
            value, at = _value(field, data, at, end, depth)
        else:
            at = _skip(data, at, end, wire)
    if value is None:
        value, _ = _value(field, b"\x00", 0, 1, depth)
    return key, value


def _value(field: Field, data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """One value, its wire type already checked; None stands for a zero time."""
    kind = field.kind
    wire = _WIRE.get(kind, _LEN)
    if wire != _LEN:
        return _scalar(field, data, at, end, wire)
    start, at = _span(data, at, end)
    if kind == "string":
        return data[start:at].decode("utf-8", "replace"), at
    if kind == "message":
        inner: dict[str, Any] = {}
        _message(load().definitions[field.ref], data, start, at, inner, depth + 1)
        return inner, at
    if kind == "bytes":
        return base64.b64encode(data[start:at]).decode(), at
    parts = _pairs(data, start, at)
    if kind == "raw":
        raw = next((data[one:stop] for number, wire, one, stop in parts if number == 1 and wire == _LEN), b"")
        return _raw(raw, depth), at
    if kind == "quantity":
        text = next((data[one:stop] for number, wire, one, stop in parts if number == 1 and wire == _LEN), b"0")
        try:
            return canonical_quantity(text.decode("utf-8", "replace")), at
        except ValueError as error:
            raise _Malformed(str(error)) from None
    if kind == "strings":
        return [
            data[one:stop].decode("utf-8", "replace")
            for number, wire, one, stop in parts
            if number == 1 and wire == _LEN
        ], at
    if kind == "intOrString":
        numbers = {number: one for number, wire, one, _ in parts if wire == _VARINT}
        if numbers.get(1, 0) == 0:
            return _signed(numbers.get(2, 0), 32), at
        text = next((data[one:stop] for number, wire, one, stop in parts if number == 3 and wire == _LEN), b"")
        return text.decode("utf-8", "replace"), at
    return _time(kind, start, at, parts), at


def _scalar(field: Field, data: bytes, at: int, end: int, wire: int) -> tuple[Any, int]:
    if wire == _I64:
        if end - at < 8:
            raise _Malformed("unexpected EOF")
        return _double.unpack_from(data, at)[0], at + 8
    number, at = _varint(data, at, end)
    if field.kind == "boolean":
        return number != 0, at
    return _signed(number, 32 if field.kind == "int32" else 64), at


def _raw(raw: bytes, depth: int) -> Any:
    if not raw:
        return None
    if raw[:4] == MAGIC:
        if depth > _MAX_DEPTH:
            raise _Malformed("nested too deep")
        return _envelope(raw, depth + 1)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _Malformed(f"a raw extension is not JSON: {error}") from None


def _time(kind: str, start: int, end: int, parts: list[tuple[int, int, int, int]]) -> str | None:
    if start == end:
        return None
    numbers = {number: one for number, wire, one, _ in parts if wire == _VARINT}
    seconds, nanos = _signed(numbers.get(1, 0), 64), _signed(numbers.get(2, 0), 32)
    try:
        found = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000 if kind == "microTime" else 0)
    except OverflowError:
        raise _Malformed("a time is out of range") from None
    text = f"{found.year:04d}{found:-%m-%dT%H:%M:%S}"
    return f"{text}.{found.microsecond:06d}Z" if kind == "microTime" else f"{text}Z"


def encode_protobuf(obj: dict[str, Any]) -> bytes:
    """The protobuf body of a JSON-shaped object that passed `check` (its apiVersion and kind tell its type).

    Raises ApiError 400 for a kind that the table does not know or values that do not fit.
    """
    gvk = GVK.of(obj.get("apiVersion", ""), obj.get("kind", ""))
    try:
        message = load().message(gvk)
        raw = _encode(message, {key: one for key, one in obj.items() if key not in ("apiVersion", "kind")})
    except UnknownKind as error:
        raise bad_request(str(error)) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise bad_request(f"{gvk.kind} cannot be encoded as protobuf: {error}") from None
    type_meta = length_delimited(1, gvk.api_version.encode()) + length_delimited(2, gvk.kind.encode())
    return (
        MAGIC
        + length_delimited(1, type_meta)
        + length_delimited(2, raw)
        + length_delimited(3, b"")
        + length_delimited(4, b"")
    )


def _number(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, data: bytes) -> bytes:
    """A field of wire type 2: a string, bytes or a message."""
    return _number(number << 3 | _LEN) + _number(len(data)) + data


def _encode(message: Message, obj: dict[str, Any]) -> bytes:
    out = bytearray()
    for part in message.inline:
        inner = load().definitions[part.ref]
        out += length_delimited(
            part.number, _encode(inner, {key: one for key, one in obj.items() if key in inner.fields})
        )
    for field in message.own:
        value = obj.get(field.name)
        if value is None or not field.number:
            continue
        if field.container == "list":
            for one in value:
                out += _tagged(field.number, field, one)
        elif field.container == "map":
            for key in sorted(value):
                out += length_delimited(field.number, length_delimited(1, key.encode()) + _tagged(2, field, value[key]))
        else:
            out += _tagged(field.number, field, value)
    return bytes(out)


def _tagged(number: int, field: Field, value: Any) -> bytes:
    kind = field.kind
    wire = _WIRE.get(kind, _LEN)
    if wire == _VARINT:
        return _number(number << 3 | wire) + _number(int(value))
    if wire == _I64:
        return _number(number << 3 | wire) + _double.pack(value)
    return length_delimited(number, _payload(field, value))


def _payload(field: Field, value: Any) -> bytes:
    kind = field.kind
    if kind == "string":
        return bytes(value.encode())
    if kind == "message":
        return _encode(load().definitions[field.ref], value)
    if kind == "bytes":
        return base64.b64decode(value, validate=True)
    if kind == "raw":
        return length_delimited(1, msgspec.json.encode(value))
    if kind == "quantity":
        return length_delimited(1, canonical_quantity(value).encode())
    if kind == "strings":
        return b"".join(length_delimited(1, one.encode()) for one in value)
    if kind == "intOrString":
        if isinstance(value, str):
            return b"\x08\x01\x10\x00" + length_delimited(3, value.encode())
        return b"\x08\x00\x10" + _number(value) + length_delimited(3, b"")
    text = canonical_micro_time(value) if kind == "microTime" else canonical_time(value)
    since = datetime.fromisoformat(text) - _EPOCH
    seconds = since.days * 86400 + since.seconds
    return b"\x08" + _number(seconds) + b"\x10" + _number(since.microseconds * 1000)
