"""Patterns of strings in schemas, in Go's syntax."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

__all__ = ["StringPattern", "compile_pattern"]

# The maximum number of bytes of a compiled pattern. Larger patterns take too long to match, and common custom types
# have none.
_MEMORY = 2 << 20


class StringPattern(Protocol):
    """A compiled pattern. source: its text. steps: the length of its program. Long programs match slowly."""

    source: str
    steps: int

    def matches(self, text: str) -> bool:
        """Return True when the pattern matches somewhere in `text`."""
        ...


@lru_cache(256)
def compile_pattern(text: str) -> StringPattern:
    """Compile a pattern. Raises ValueError, with the reason, when the pattern is malformed or too large."""
    # Imported here, because RE2 takes 5 MB of memory, which only clusters with such patterns need.
    from hatchway.goregexp import Expression

    return Expression(text, memory=_MEMORY)
