"""Regular expressions in Go's syntax."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatchway.goregexp import Expression

__all__ = ["compile_regex"]

# The most bytes of a compiled expression. Larger ones would hold the interpreter too long.
_MEMORY = 2 << 20


@lru_cache(256)
def compile_regex(text: str) -> Expression:
    """Return a regular expression. Raises ValueError, with the reason, for one that is malformed or too large."""
    # Imported here, because RE2 takes 5 MB, which only expressions that use it should need.
    from hatchway.goregexp import Expression

    return Expression(text, memory=_MEMORY)
