"""What strict decoding finds in a JSON body: unknown fields and fields that are there twice, in the order of the document.

As `sigs.k8s.io/json` (`UnmarshalStrict`): a field is reported once, values of unknown fields are not looked into.
"""

from __future__ import annotations

import json
from typing import Any

from hatchway.cluster.api.schema.check import MAX_STRICT_ERRORS, Path, show_path
from hatchway.cluster.api.schema.table import Field, Message, UnknownKind, load

__all__ = ["strict_errors"]


class _Items(list[tuple[str, Any]]):
    """An object as the pairs of its document: none is lost when a key comes again."""


def strict_errors(gvk: tuple[str, str, str] | None, body: bytes) -> tuple[str, ...]:
    """`unknown field "spec.foo"` and `duplicate field "spec.bar"`, in the order of the document.

    gvk: the type; None for a document without one, where every field is known. () when no field is there twice, since
    `check` finds unknown fields by itself, and when the body does not parse.
    """
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
    # A dictionary, since a message is given once, where it came first.
    found: dict[str, None] = {}
    try:
        _walk(top, message, gvk is None, None, found)
    except RecursionError:
        return ()
    return tuple(found)[:MAX_STRICT_ERRORS]


def _walk(value: Any, message: Message | None, free: bool, path: Path, found: dict[str, None]) -> None:
    """free: a value without a type, all of which is looked into."""
    if isinstance(value, _Items):
        seen: set[str] = set()
        for key, one in value:
            here: Path = (path, key)
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


def _walk_field(value: Any, field: Field, path: Path, found: dict[str, None]) -> None:
    inner = load().definitions[field.ref] if field.kind == "message" else None
    if field.container == "map":
        if isinstance(value, _Items):
            seen: set[str] = set()
            for key, one in value:
                here: Path = (path, key)
                if key in seen:
                    found.setdefault(f'duplicate field "{show_path(here)}"')
                seen.add(key)
                if inner is not None:
                    _walk(one, inner, False, here, found)
    elif inner is not None:
        _walk(value, inner, False, path, found)
