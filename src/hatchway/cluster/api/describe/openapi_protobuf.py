"""Encodes OpenAPI v2 as protobuf, which older kubectls require (gnostic's `openapiv2/OpenAPIv2.proto`).

Only the fields that the v2 document of `openapi.py` uses are encoded. Values for which the message has no field are
sent as YAML text. (JSON is valid YAML.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hatchway.cluster.api.registry.schema.wireformat import length_delimited

__all__ = ["CONTENT_TYPE", "encode_v2", "wants_protobuf"]

Json = dict[str, Any]

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# The second type is an older name that some clients still use. It is not a valid media type.
_ACCEPTED = (CONTENT_TYPE, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def wants_protobuf(accept: str) -> bool:
    """Return True if an Accept header prefers this encoding to JSON."""
    for media_type in accept.split(","):
        name = media_type.partition(";")[0].strip()
        if name in _ACCEPTED:
            return True
        if name in ("application/json", "*/*"):
            return False
    return False


def encode_v2(document: Json) -> bytes:
    """Return the `openapi.v2.Document` message of a v2 document."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    paths = b"".join(_named(2, path, _path_item(item)) for path, item in document["paths"].items())
    definitions = b"".join(_named(1, name, _schema(one)) for name, one in document["definitions"].items())
    return (
        _text(1, document["swagger"])
        + length_delimited(2, info)
        + length_delimited(8, paths)
        + length_delimited(9, definitions)
    )


def _text(number: int, value: str) -> bytes:
    return length_delimited(number, value.encode()) if value else b""


def _texts(number: int, values: Iterable[str]) -> bytes:
    return b"".join(length_delimited(number, value.encode()) for value in values)


def _true(number: int, value: object) -> bytes:
    """Return a field with the value true. (Field numbers of 16 and more have a tag of two bytes.)"""
    if not value:
        return b""
    tag = number << 3
    return (bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])) + b"\x01"


def _named(number: int, name: str, value: bytes) -> bytes:
    """Return an entry of a map, which gnostic writes as a message of name and value."""
    return length_delimited(number, _text(1, name) + length_delimited(2, value))


def _any(value: Any) -> bytes:
    return _text(2, msgspec.json.encode(value).decode() + "\n")


def _extensions(number: int, value: Json) -> bytes:
    return b"".join(_named(number, name, _any(one)) for name, one in value.items() if name.startswith("x-"))


def _schema(schema: Json) -> bytes:
    found = _text(1, schema.get("$ref", "")) + _text(2, schema.get("format", ""))
    found += _text(4, schema.get("description", ""))
    if "default" in schema:
        found += length_delimited(5, _any(schema["default"]))
    found += _texts(19, schema.get("required", ()))
    found += b"".join(length_delimited(20, _any(one)) for one in schema.get("enum", ()))
    if "additionalProperties" in schema:
        found += length_delimited(21, length_delimited(1, _schema(schema["additionalProperties"])))
    if "type" in schema:
        found += length_delimited(22, _text(1, schema["type"]))
    if "items" in schema:
        found += length_delimited(23, length_delimited(1, _schema(schema["items"])))
    if "properties" in schema:
        properties = b"".join(_named(1, name, _schema(one)) for name, one in schema["properties"].items())
        found += length_delimited(25, properties)
    return found + _extensions(31, schema)


def _path_item(item: Json) -> bytes:
    found = b"".join(
        length_delimited(number, _operation(item[method])) for method, number in _METHODS.items() if method in item
    )
    return found + b"".join(length_delimited(9, _parameter(one)) for one in item.get("parameters", ()))


def _operation(operation: Json) -> bytes:
    responses = b"".join(
        _named(1, code, length_delimited(1, _response(one))) for code, one in operation["responses"].items()
    )
    return (
        _text(5, operation["operationId"])
        + _texts(6, operation.get("produces", ()))
        + _texts(7, operation.get("consumes", ()))
        + b"".join(length_delimited(8, _parameter(one)) for one in operation.get("parameters", ()))
        + length_delimited(9, responses)
        + _extensions(13, operation)
    )


def _response(response: Json) -> bytes:
    schema = length_delimited(2, length_delimited(1, _schema(response["schema"]))) if "schema" in response else b""
    return _text(1, response["description"]) + schema


def _parameter(parameter: Json) -> bytes:
    """Return a `ParametersItem`."""
    place, name = parameter["in"], parameter["name"]
    required = parameter.get("required")
    if place == "body":
        body = _text(2, name) + _text(3, place) + _true(4, required)
        body += length_delimited(5, _schema(parameter["schema"]))
        return length_delimited(1, length_delimited(1, body))
    found = _true(1, required) + _text(2, place) + _text(4, name)
    unique = parameter.get("uniqueItems")
    if place == "query":
        found += _text(6, parameter["type"]) + _true(20, unique)
        return length_delimited(1, length_delimited(2, length_delimited(3, found)))
    found += _text(5, parameter["type"]) + _true(19, unique)
    return length_delimited(1, length_delimited(2, length_delimited(4, found)))
