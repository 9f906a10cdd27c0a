"""The `fieldPath` of a rule: a simple JSONPath (apiextensions-apiserver `pkg/apiserver/schema/cel/validation.go`)."""

from __future__ import annotations

import re

from hatchway.cluster.api.registry.custom.node import SchemaNode

__all__ = ["FieldPathError", "parse_field_path"]

_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\['(?P<quoted>(?:\\.|[^'\\])*)'\]")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


class FieldPathError(ValueError):
    """Raised for a path that is malformed or names no field of the schema."""


def parse_field_path(text: str, node: SchemaNode) -> str:
    """Parse a `fieldPath`. Return it in the form that field errors use. Raises FieldPathError."""
    found = ""
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise FieldPathError(f"expected [ or . but got: {text[at : at + 32]}")
        at = match.end()
        quoted = match["quoted"]
        name: str = match["name"] if quoted is None else _unescaped(quoted)
        inner = node.properties.get(name)
        if inner is not None:
            found += f".{name}"
        elif not node.properties and node.rest is not None:
            inner = node.rest
            found += f"[{name}]"
        else:
            raise FieldPathError("does not refer to a valid field")
        node = inner
    return found.removeprefix(".")


def _unescaped(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise FieldPathError(f"invalid escape char \\{match[1]}")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", replace, text)
