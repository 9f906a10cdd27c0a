"""Checks constant arguments: durations, timestamps and regular expressions (cel-go `cel/validator.go`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hatchway.cluster.api.cel.library.conversions import duration_of_text, timestamp_of_text
from hatchway.cluster.api.cel.library.regexes import compile_regex
from hatchway.cluster.api.cel.syntax import (
    CallNode,
    Comprehension,
    Issues,
    ListExpr,
    Literal,
    MapExpr,
    Select,
    Struct,
    SyntaxNode,
)
from hatchway.cluster.api.cel.values import EvaluationError

__all__ = ["check_literals", "parts_of"]

# The maximum for the lengths of the compiled regular expressions of one text together: 0.3 s of processor time.
_MOST_STEPS = 500_000
# What an expression counts as that is refused because it is too large.
_LARGEST_STEPS = 60_000


def parts_of(node: SyntaxNode) -> Iterator[SyntaxNode]:
    """Yield the parts of a node, without parts that only a macro's expansion adds. May yield a part several times."""
    if isinstance(node, Select):
        yield node.operand
    elif isinstance(node, CallNode):
        yield from node.all_args
    elif isinstance(node, ListExpr):
        yield from node.items
    elif isinstance(node, MapExpr):
        for pair in node.entries:
            yield from pair
    elif isinstance(node, Struct):
        for _, value, _ in node.fields:
            yield value
    elif isinstance(node, Comprehension):
        yield from (node.source, node.initial, node.step, node.result)


def check_literals(root: SyntaxNode, issues: Issues) -> None:
    """Add an error for each constant argument whose conversion must fail.

    The work for regular expressions is limited. Those beyond the limit are checked only when they are used.
    """
    patterns = _Patterns()
    checks = {("duration", 1): _duration, ("timestamp", 1): _timestamp, ("matches", 2): patterns.check}
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        waiting += parts_of(node)
        if not isinstance(node, CallNode):
            continue
        check = checks.get((node.name, len(node.all_args)))
        last = node.all_args[-1] if node.all_args else None
        if check is not None and isinstance(last, Literal) and isinstance(last.value, str):
            message = check(last.value)
            if message:
                issues.add(last.offset, message)


def _duration(text: str) -> str:
    return _invalid("duration", duration_of_text, text)


def _timestamp(text: str) -> str:
    return _invalid("timestamp", timestamp_of_text, text)


def _invalid(name: str, convert: Callable[[str], object], text: str) -> str:
    try:
        convert(text)
    except EvaluationError:
        return f"invalid {name} argument"
    return ""


class _Patterns:
    """Checks the regular expressions of one text, until they have needed too much work."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def check(self, text: str) -> str:
        if self._left <= 0:
            return ""
        try:
            self._left -= compile_regex(text).steps
        except ValueError as error:
            # RE2 has compiled an expression of the largest size before it refused one that is larger.
            self._left -= _LARGEST_STEPS if "too large" in str(error) else 1 + len(text) // 2
            return "invalid matches argument"
        return ""
