"""Finds unknown and duplicate fields in a JSON body, in the order of the document (strict decoding).

As in `sigs.k8s.io/json` (`UnmarshalStrict`), a field is reported once, and values of unknown fields are not checked.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from hatchway.cluster.api.registry.schema.check import MAX_STRICT_ERRORS, FieldPath, show_path
from hatchway.cluster.api.registry.schema.table import Field, TypeDefinition, UnknownKind, load

__all__ = ["strict_errors"]


_decode, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


class _Items(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, so that duplicate keys are kept."""


def strict_errors(gvk: tuple[str, str, str] | None, body: bytes) -> tuple[str, ...]:
    """Return messages such as `unknown field "spec.foo"` and `duplicate field "spec.bar"`, in document order.

    gvk: the type; None for a document without a type, in which no field is unknown. Returns () when the document has no
    duplicate field, because `check` finds unknown fields by itself. Also returns () when the body cannot be parsed.
    """
    if not _may_repeat(body):
        return ()
    repeated = False

    def pairs(items: list[tuple[str, Any]]) -> _Items:
        nonlocal repeated
        if not repeated and len(items) > 1 and len({key for key, _ in items}) < len(items):
            repeated = True
        return _Items(items)

    try:
        top = json.loads(body, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return ()
    if not repeated:
        return ()
    message = None
    if gvk is not None:
        try:
            message = load().message(gvk)
        except UnknownKind:
            return ()
    # A dictionary keeps each message once, at its first position.
    found: dict[str, None] = {}
    try:
        _walk(top, message, gvk is None, None, found)
    except RecursionError:
        return ()
    return tuple(found)[:MAX_STRICT_ERRORS]


def _may_repeat(body: bytes) -> bool:
    """Return False if the document has no duplicate fields.

    Decoding keeps only one of several duplicates. When the result is encoded again, it therefore has fewer colons than
    the document. A colon may also be written as an escape sequence, so bodies with such sequences may have duplicates.
    """
    if b"\\u" in body:
        return True
    try:
        return body.count(b":") != _encode(_decode(body)).count(b":")
    except (ValueError, RecursionError):
        return True


def _walk(value: Any, message: TypeDefinition | None, free: bool, path: FieldPath, found: dict[str, None]) -> None:
    """Collect the errors in a value. free: the value has no type, so only duplicate fields are reported."""
    if isinstance(value, _Items):
        seen: set[str] = set()
        for key, one in value:
            here: FieldPath = (path, key)
            field = message.fields.get(key) if message is not None else None
            if message is not None and field is None:
                found.setdefault(f'unknown field "{show_path(here)}"')
                continue
            if key in seen:
                found.setdefault(f'duplicate field "{show_path(here)}"')
            seen.add(key)
            if field is not None:
                _walk_field(one, field, here, found)
            elif free:
                _walk(one, None, True, here, found)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            _walk(one, message, free, (path, index), found)


def _walk_field(value: Any, field: Field, path: FieldPath, found: dict[str, None]) -> None:
    inner = load().definitions[field.ref] if field.kind == "message" else None
    if field.container == "map":
        if isinstance(value, _Items):
            seen: set[str] = set()
            for key, one in value:
                here: FieldPath = (path, key)
                if key in seen:
                    found.setdefault(f'duplicate field "{show_path(here)}"')
                seen.add(key)
                if inner is not None:
                    _walk(one, inner, False, here, found)
    elif inner is not None:
        _walk(value, inner, False, path, found)
