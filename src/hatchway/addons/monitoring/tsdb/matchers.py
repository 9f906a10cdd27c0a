"""Label matchers: `=`, `!=`, `=~`, `!~` (`model/labels/matcher.go` of Prometheus)."""

from __future__ import annotations

from typing import Literal

from hatchway.goregexp import Expression, ExpressionError

MatchType = Literal["=", "!=", "=~", "!~"]
# The maximum number of characters of an expression, which limits the time to compile it. (`goregexp` limits its memory,
# and matching takes linear time.)
_LONGEST = 16 * 1024

__all__ = ["ExpressionError", "MatchType", "Matcher"]


def whole_expression(source: str, *, capture: bool = False) -> Expression:
    """Return an expression that matches only whole texts. Raises ExpressionError with Go's message."""
    if len(source) > _LONGEST:
        raise ExpressionError(f"the expression is longer than {_LONGEST} characters")
    found = Expression(f"^(?:{source})$", capture=capture)
    # Compile the source without the group, too: `a)(b` is an error, but would be valid inside the group.
    Expression(source)
    return found


class Matcher:
    """Matches the value of a label. A missing label has the value "".

    Regular expressions have Go's syntax and match whole values.

    Raises:
        ExpressionError: the expression is malformed.
    """

    __slots__ = ("_expression", "matches_empty", "name", "type", "value")

    def __init__(self, type: MatchType, name: str, value: str) -> None:
        self.type: MatchType = type
        self.name = name
        self.value = value
        self._expression: Expression | None = None
        if type in ("=~", "!~"):
            self._expression = whole_expression(value)
        self.matches_empty = self.matches("")

    def matches(self, value: str) -> bool:
        """Return True when the value matches."""
        match self.type:
            case "=":
                return value == self.value
            case "!=":
                return value != self.value
            case "=~":
                return self._expression is not None and self._expression.matches(value)
            case "!~":
                return self._expression is None or not self._expression.matches(value)

    def __repr__(self) -> str:
        return f"Matcher({self.name}{self.type}{self.value!r})"
