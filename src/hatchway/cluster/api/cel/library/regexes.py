"""Regular expressions in Go's syntax."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatchway.goregexp import Expression

__all__ = ["compile_regex"]

# The maximum number of bytes of a compiled expression. Larger expressions would block the interpreter for too long.
_MEMORY = 2 << 20


@lru_cache(256)
def compile_regex(text: str) -> Expression:
    """Compile a regular expression. Raises ValueError, with the reason, when it is malformed or too large."""
    # Imported here, because RE2 takes 5 MB of memory, and few expressions use it.
    from hatchway.goregexp import Expression

    return Expression(text, memory=_MEMORY)
