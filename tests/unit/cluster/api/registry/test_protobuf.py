"""Protobuf bodies: recorded bodies of kubectl, round trips of any object, and hostile bodies."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.schema.wireformat import MAGIC
from hatchway.errors import ApiError

from .protobuf_encoder import encode_protobuf

# Recorded from kubectl 1.37: its arguments, the body that it sent, the object that it meant.
RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[3] / "data" / "kubectl-protobuf.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["kubectl"])
def test_what_kubectl_sends(recorded: dict[str, Any]) -> None:
    found = schema.decode_protobuf(base64.b64decode(recorded["body"]))
    assert found == recorded["object"]
    gvk = schema.GVK.of(found["apiVersion"], found["kind"])
    checked = schema.check(gvk, found)
    assert checked.unknown == ()
    assert schema.decode_protobuf(encode_protobuf(checked.object)) == checked.object


_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=5),
    "bytes": st.binary(max_size=5).map(lambda data: base64.b64encode(data).decode()),
    "boolean": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "time": st.datetimes().map(lambda one: one.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")),
    "microTime": st.datetimes().map(lambda one: one.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")),
    "quantity": st.sampled_from(["1", "500m", "2Gi", "1e3"]),
    "intOrString": st.integers(-(2**31), 2**31 - 1) | st.text(max_size=4),
    "raw": st.dictionaries(st.text(max_size=3), st.integers(0, 9), min_size=1, max_size=2),
    "strings": st.lists(st.text(max_size=3), max_size=2),
}


@st.composite
def objects_of(draw: st.DrawFn, name: str, depth: int = 0) -> dict[str, Any]:
    """Generate an object of a type, from the table's description of the type."""
    fields = [one for one in schema.load().message(name).fields.values() if one.number and (depth < 5 or not one.ref)]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda one: one.name)) if fields else []
    found: dict[str, Any] = {}
    for field in chosen:
        element = objects_of(field.ref, depth + 1) if field.ref else _SCALARS[field.kind]
        if field.container == "list":
            found[field.name] = draw(st.lists(element, min_size=1, max_size=2))
        elif field.container == "map":
            found[field.name] = draw(st.dictionaries(st.text(max_size=3), element, min_size=1, max_size=2))
        else:
            found[field.name] = draw(element)
    return found


KINDS = sorted(name for name, message in schema.load().definitions.items() if message.gvks)


@settings(max_examples=200)
@given(st.sampled_from(KINDS).flatmap(lambda name: st.tuples(st.just(name), objects_of(name))))
def test_round_trip(case: tuple[str, dict[str, Any]]) -> None:
    name, obj = case
    checked = schema.check(schema.load().message(name).gvks[0], obj).object
    assert schema.decode_protobuf(encode_protobuf(checked)) == checked


def envelope(raw: bytes, api_version: str = "v1", kind: str = "Pod") -> bytes:
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(data)) + data

    return MAGIC + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, raw)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_unknown_fields_are_skipped() -> None:
    raw = b"\xf8\x07\x01" + b"\xfa\x07\x01x" + b"\xf9\x07" + b"\0" * 8 + b"\xfd\x07" + b"\0" * 4
    assert schema.decode_protobuf(envelope(raw)) == {"apiVersion": "v1", "kind": "Pod"}


def test_packed_numbers_are_decoded() -> None:
    # PodSecurityContext.supplementalGroups, packed and unpacked
    for inner in (b"\x22\x02\x01\x02", b"\x20\x01\x20\x02"):
        security = b"\x72" + varint(len(inner)) + inner
        found = schema.decode_protobuf(envelope(b"\x12" + varint(len(security)) + security))
        assert found["spec"] == {"securityContext": {"supplementalGroups": [1, 2]}}


def test_raw_extensions_are_decoded() -> None:
    inner = envelope(b"", "v1", "ConfigMap")
    for raw, expected in ((b'{"a":1}', {"a": 1}), (inner, {"apiVersion": "v1", "kind": "ConfigMap"})):
        extension = b"\x0a" + varint(len(raw)) + raw
        found = schema.decode_protobuf(envelope(b"\x12" + varint(len(extension)) + extension, "v1", "List"))
        assert found["items"] == [expected]


def nested(depth: int) -> bytes:
    body = envelope(b"", "v1", "ConfigMap")
    for _ in range(depth):
        extension = b"\x0a" + varint(len(body)) + body
        body = envelope(b"\x12" + varint(len(extension)) + extension, "v1", "List")
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"k8s",
        b"{}",
        MAGIC,
        MAGIC + b"\x0a",
        MAGIC + b"\x0a\xff\xff\xff\xff\x7f",
        MAGIC + b"\x12" + b"\xff" * 9 + b"\x01",
        MAGIC + b"\xff" * 20,
        MAGIC + b"\x08\x01",
        MAGIC + b"\x0b",
        envelope(b"", "v1", "Nope"),
        envelope(b"", "\xff"),
        envelope(b"\x00\x00"),
        envelope(b"\x08\x01"),
        envelope(b"\x0b\x0c"),
        envelope(b"\x12\x7f"),
        envelope(b"\x12\x04\x12\x02\x0a\x05"),
        envelope(b"\x0a\x04\x42\x02\x08\x80"),
        envelope(b"\x0a\x0d\x42\x0b\x08" + b"\xff" * 8 + b"\x7f"),
        envelope(b"\x12\x03\x0a\x01{", "v1", "List"),
        envelope(b"\x12\x04\x0a\x02\xff\xfe", "v1", "List"),
        nested(2000),
    ],
)
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        schema.decode_protobuf(body)
    assert caught.value.code == 400


@given(st.sampled_from(RECORDED), st.data())
def test_damaged_bodies_never_break_the_server(recorded: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(base64.b64decode(recorded["body"]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]
    try:
        found = schema.decode_protobuf(bytes(body))
    except ApiError as error:
        assert error.code == 400
    else:
        assert isinstance(found, dict)


@given(st.binary(max_size=60), st.sampled_from(KINDS))
def test_any_bytes(raw: bytes, name: str) -> None:
    group, version, kind = schema.load().message(name).gvks[0]
    try:
        schema.decode_protobuf(envelope(raw, f"{group}/{version}" if group else version, kind))
    except ApiError as error:
        assert error.code == 400


def test_encoding_refuses_unknown_kinds_and_wrong_types() -> None:
    for obj in ({"apiVersion": "v1", "kind": "Nope"}, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 1}}):
        with pytest.raises(ApiError) as caught:
            encode_protobuf(obj)
        assert caught.value.code == 400
