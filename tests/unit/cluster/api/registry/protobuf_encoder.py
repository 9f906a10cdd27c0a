"""Encode objects in protobuf, as kubectl and typed clients send them."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime
from typing import Any

import msgspec

from hatchway.cluster.api.registry.schema.scalars import canonical_micro_time, canonical_quantity, canonical_time
from hatchway.cluster.api.registry.schema.table import GVK, Field, TypeDefinition, UnknownKind, load
from hatchway.cluster.api.registry.schema.wireformat import I64, LEN, MAGIC, VARINT, encode_varint, length_delimited
from hatchway.errors import bad_request

_WIRE = {"boolean": VARINT, "int32": VARINT, "int64": VARINT, "double": I64}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_double = struct.Struct("<d")


def encode_protobuf(obj: dict[str, Any]) -> bytes:
    """Return the protobuf body of a JSON-shaped object that passed `check` (its apiVersion and kind tell its type).

    Raises ApiError 400 for a kind that is not in the table, and for values of wrong types.
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


def _encode(message: TypeDefinition, obj: dict[str, Any]) -> bytes:
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
    wire = _WIRE.get(kind, LEN)
    if wire == VARINT:
        return encode_varint(number << 3 | wire) + encode_varint(int(value))
    if wire == I64:
        return encode_varint(number << 3 | wire) + _double.pack(value)
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
        return b"\x08\x00\x10" + encode_varint(value) + length_delimited(3, b"")
    text = canonical_micro_time(value) if kind == "microTime" else canonical_time(value)
    since = datetime.fromisoformat(text) - _EPOCH
    seconds = since.days * 86400 + since.seconds
    return b"\x08" + encode_varint(seconds) + b"\x10" + encode_varint(since.microseconds * 1000)
