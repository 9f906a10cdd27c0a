"""Encodes objects of built-in types in Kubernetes' protobuf encoding by the schema table: the inverse of `protobuf.py`.

Kubernetes writes some empty values. Hatchway leaves them out when a decoder gets the same value without them. Objects
are not checked, because they come from the store. Fields that are not in the table are left out.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from hatchway.cluster.api.registry.schema.table import GVK, Field, TypeDefinition, load
from hatchway.cluster.api.registry.schema.wireformat import I64, LEN, MAGIC, VARINT, encode_varint, length_delimited

__all__ = ["encode_protobuf", "encode_watch_event", "encode_whole_list", "in_protobuf", "list_item"]

Json = dict[str, Any]
_Writer = Callable[[Any], bytes]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_json = msgspec.json.Encoder().encode
# These kinds are not in the published schema. Their fields have the protobuf numbers 1 (metadata) and 2 (items).
_METADATA_KINDS = ("PartialObjectMetadata", "PartialObjectMetadataList")


def in_protobuf(gvk: tuple[str, str, str]) -> bool:
    """Return True when objects of a kind (group, version, kind) can be encoded."""
    return load().has(gvk)


def encode_protobuf(obj: Json) -> bytes:
    """Encode an object, with its envelope. obj: has `apiVersion` and `kind`. Raises UnknownKind."""
    api_version, kind = obj["apiVersion"], obj["kind"]
    if kind in _METADATA_KINDS:
        if kind == "PartialObjectMetadata":
            return _envelope(api_version, kind, list_item(kind, obj))
        items = [list_item("PartialObjectMetadata", one) for one in obj["items"]]
        return encode_whole_list(obj, items)
    definition = load().message(GVK.of(api_version, kind))
    return _envelope(api_version, kind, _message(definition.name, obj))


def list_item(item: tuple[str, str, str] | str, obj: Json) -> bytes:
    """Encode one item of a list, without an envelope. item: the kind of the item. Raises UnknownKind."""
    if item == "PartialObjectMetadata":
        return length_delimited(1, _message("meta.v1.ObjectMeta", obj.get("metadata") or {}))
    return _message(load().message(item).name, obj)


def encode_whole_list(head: Json, items: list[bytes]) -> bytes:
    """Encode a list, with its envelope. head: apiVersion, kind, metadata. items: results of `list_item`."""
    parts = [length_delimited(1, _message("meta.v1.ListMeta", head.get("metadata") or {}))]
    parts += [length_delimited(2, one) for one in items]
    return _envelope(head["apiVersion"], head["kind"], b"".join(parts))


def encode_watch_event(type: str, obj: Json) -> bytes:
    """Encode one frame of a watch: its length (four bytes) and a WatchEvent with the object in its envelope.

    From apimachinery's `runtime/serializer/protobuf` (`LengthDelimitedFramer`).
    """
    event = length_delimited(1, type.encode()) + length_delimited(2, length_delimited(1, encode_protobuf(obj)))
    return len(event).to_bytes(4, "big") + event


def _envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    named = length_delimited(1, api_version.encode()) + length_delimited(2, kind.encode())
    # contentEncoding and contentType are empty but written, as in Go's generated code.
    empty = length_delimited(3, b"") + length_delimited(4, b"")
    return b"".join((MAGIC, length_delimited(1, named), length_delimited(2, raw), empty))


def _message(name: str, obj: Json) -> bytes:
    writers, inlined = _plan(name)
    parts = [
        writer(value) for key, value in obj.items() if value is not None and (writer := writers.get(key)) is not None
    ]
    for number, ref in inlined:
        # In JSON, the fields of an embedded struct are in the object itself; in protobuf they are a separate message.
        if inner := _message(ref, obj):
            parts.append(length_delimited(number, inner))
    return b"".join(parts)


@functools.cache
def _plan(name: str) -> tuple[dict[str, _Writer], tuple[tuple[int, str], ...]]:
    """Return a writer for each field of a type, and the type's embedded structs as (number, type)."""
    definition: TypeDefinition = load().definitions[name]
    writers = {field.name: _field(field) for field in definition.own if field.number}
    return writers, tuple((part.number, part.ref) for part in definition.inline if part.number)


def _field(field: Field) -> _Writer:
    wire, content = _content(field)
    tag = encode_varint(field.number << 3 | wire)

    def delimited(value: Any) -> bytes:
        data = content(value)
        return tag + encode_varint(len(data)) + data

    def plain(value: Any) -> bytes:
        return tag + content(value)

    one = delimited if wire == LEN else plain
    if field.container == "list":
        return lambda value: b"".join([one(item) for item in value])
    if field.container == "map":
        entry = encode_varint(field.number << 3 | LEN)
        inner = encode_varint(2 << 3 | wire)

        def write(value: Json) -> bytes:
            parts = []
            for key, item in value.items():
                data = content(item) if item is not None else b""
                if wire == LEN:
                    data = encode_varint(len(data)) + data
                pair = length_delimited(1, key.encode(errors="replace")) + inner + data
                parts.append(entry + encode_varint(len(pair)) + pair)
            return b"".join(parts)

        return write
    return one


def _content(field: Field) -> tuple[int, _Writer]:
    """Return the wire type of a field's values, and a function that encodes a value (without tag and length)."""
    kind, ref = field.kind, field.ref
    if kind == "message":
        return LEN, lambda value: _message(ref, value)
    if kind.startswith("schemaOr"):
        return LEN, functools.partial(_alternative, kind, ref)
    return _SCALARS[kind]


def _alternative(kind: str, ref: str, value: Any) -> bytes:
    """Encode a value of the kind schemaOrList, schemaOrBoolean or schemaOrStrings."""
    if kind == "schemaOrBoolean":
        if isinstance(value, bool):
            return _ALLOWS + (b"\x01" if value else b"\x00")
        return _ALLOWS + b"\x01" + length_delimited(2, _message(ref, value))
    if isinstance(value, dict):
        return length_delimited(1, _message(ref, value))
    if kind == "schemaOrList":
        return b"".join(length_delimited(2, _message(ref, one)) for one in value)
    return b"".join(length_delimited(2, str(one).encode(errors="replace")) for one in value)


_ALLOWS = encode_varint(1 << 3 | VARINT)


def _string(value: Any) -> bytes:
    return str(value).encode(errors="replace")


def _quantity(value: Any) -> bytes:
    return length_delimited(1, _string(value))


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01" + length_delimited(3, _string(value))
    return b"\x08\x00\x10" + encode_varint(int(value))


def _raw(value: Any) -> bytes:
    return length_delimited(1, _json(value))


def _strings(value: Any) -> bytes:
    return b"".join([length_delimited(1, _string(one)) for one in value])


def _time(value: Any) -> bytes:
    since = datetime.fromisoformat(value) - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    found = b"\x08" + encode_varint(seconds)
    return found + b"\x10" + encode_varint(since.microseconds * 1000) if since.microseconds else found


_SCALARS: dict[str, tuple[int, _Writer]] = {
    "string": (LEN, _string),
    "bytes": (LEN, lambda value: base64.b64decode(value)),
    "boolean": (VARINT, lambda value: b"\x01" if value else b"\x00"),
    "int32": (VARINT, lambda value: encode_varint(int(value))),
    "int64": (VARINT, lambda value: encode_varint(int(value))),
    "double": (I64, struct.Struct("<d").pack),
    "time": (LEN, _time),
    "microTime": (LEN, _time),
    "quantity": (LEN, _quantity),
    "intOrString": (LEN, _int_or_string),
    "raw": (LEN, _raw),
    "json": (LEN, _raw),
    "strings": (LEN, _strings),
}
