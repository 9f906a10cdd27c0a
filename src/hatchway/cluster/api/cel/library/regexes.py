"""Regular expressions in Go's syntax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatchway.cluster.api.cel.sizedcache import SizedCache
from hatchway.cluster.api.cel.state import STEPS, Evaluation
from hatchway.cluster.api.cel.values import CostExceeded

if TYPE_CHECKING:
    from hatchway.goregexp import Expression

__all__ = ["compile_regex", "expression_for"]

# The maximum number of bytes of a compiled expression. Larger expressions would block the interpreter for too long.
_MEMORY = 2 << 20
# The maximum for the number of bytes of a text times the length of the compiled expression. One match takes at most so
# many steps, and it cannot be interrupted.
_MOST_WORK = 100_000_000
# About as many bytes are needed for one step of a compiled expression, with the states that RE2 keeps for it.
_STEP = 32

# The compiled expressions, by their texts. A size is in bytes.
_compiled: SizedCache[Expression] = SizedCache(16 << 20)


def compile_regex(text: str) -> Expression:
    """Compile a regular expression. Raises ValueError, with the reason, when it is malformed or too large."""
    found = _compiled.get(text)
    if found is None:
        # Imported here, because RE2 takes 5 MB of memory, and few expressions use it.
        from hatchway.goregexp import Expression

        found = Expression(text, memory=_MEMORY)
        _compiled.put(text, found, 1024 + 4 * len(text) + _STEP * found.steps)
    return found


def expression_for(state: Evaluation, text: str, pattern: str) -> Expression:
    """Return the compiled expression `pattern` for one search in `text`, and count the work of both.

    Raises ValueError when the expression is malformed or too large; CostExceeded when the search could take too long,
    or no processor time is left.
    """
    try:
        found = compile_regex(pattern)
    except ValueError:
        # RE2 may have compiled a large part of the expression.
        state.walk(STEPS)
        raise
    # A character has at most 4 bytes.
    if (len(text) if text.isascii() else 4 * len(text)) * found.steps > _MOST_WORK:
        raise CostExceeded
    state.walk(1 + found.steps // 2 + len(text) // 256)
    return found
