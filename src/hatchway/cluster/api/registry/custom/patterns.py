"""Patterns of strings in schemas, in Go's syntax."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

__all__ = ["StringPattern", "compile_pattern"]

# Bytes of a compiled pattern. Larger ones take the interpreter too long, and no type that people use has one.
_MEMORY = 2 << 20


class StringPattern(Protocol):
    """A compiled pattern. source: its text. steps: the length of its program, which is work for each character."""

    source: str
    steps: int

    def matches(self, text: str) -> bool:
        """Return True when it matches somewhere in `text`."""
        ...


@lru_cache(256)
def compile_pattern(text: str) -> StringPattern:
    """Return a pattern. Raises ValueError, with the reason, for one that is malformed or too large."""
    # Imported here, because RE2 takes 5 MB, which only a cluster with such types should need.
    from hatchway.goregexp import Expression

    return Expression(text, memory=_MEMORY)
