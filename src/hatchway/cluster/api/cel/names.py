"""Escapes field names that are not identifiers of CEL (apiserver `pkg/cel/escaping.go`)."""

from __future__ import annotations

import re

__all__ = ["escape"]

_RESERVED = frozenset(
    ("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
     "let", "loop", "package", "namespace", "return", "var", "void", "while")
)  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z_](?:_?[A-Za-z0-9])*_?", re.ASCII)
_POSSIBLE = re.compile(r"[A-Za-z_.\-/][A-Za-z0-9_.\-/]*", re.ASCII)
_SPECIAL = re.compile(r"__|[-./]")
_WORDS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


def escape(name: str) -> str | None:
    """Return the identifier of a field (`a__dash__b` for `a-b`, `__in__` for `in`); None if it cannot be escaped."""
    if name in _RESERVED:
        return f"__{name}__"
    if _PLAIN.fullmatch(name):
        return name
    if not _POSSIBLE.fullmatch(name):
        return None
    return _SPECIAL.sub(lambda match: _WORDS[match.group()], name)
