"""The syntax tree of a CEL expression, and the errors that the parser and the checker find."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from hatchway.cluster.api.cel.celtypes import CelType, Overload

__all__ = [
    "ACCUMULATOR",
    "CallNode",
    "Comprehension",
    "ExpressionIssues",
    "Ident",
    "Issues",
    "ListExpr",
    "Literal",
    "MapExpr",
    "Select",
    "Struct",
    "SyntaxNode",
    "TreeWalk",
]  # fmt: skip

# The name of the variable in which a comprehension collects its result. Expressions cannot contain this name.
ACCUMULATOR = "@result"
# The maximum number of errors of one expression that are reported (cel-go `common/errors.go`).
_MOST_ISSUES = 100
# The maximum number of characters of a quoted line. An error does not quote a longer line (`common/error.go`).
_LONGEST_SNIPPET = 16384


@dataclass(slots=True, eq=False)
class SyntaxNode:
    """A part of an expression.

    Attributes:
        offset: the position in the text, in characters.
        type: the type, after checking.
    """

    offset: int
    type: CelType = field(init=False)


@dataclass(slots=True, eq=False)
class Literal(SyntaxNode):
    """A constant: bool, int, UInt, float, str, bytes or None."""

    value: Any


@dataclass(slots=True, eq=False)
class Ident(SyntaxNode):
    """A simple name. A qualified name (`a.b` as one variable) is a Select with `qualified`."""

    name: str


@dataclass(slots=True, eq=False)
class Select(SyntaxNode):
    """The selection of a field. test: True for `has(operand.field)`. optional: True for `operand.?field`.

    qualified: the qualified name, if the selection is a variable or a type such as `net.IP`; "" for a field.
    """

    operand: SyntaxNode
    field: str
    test: bool = False
    optional: bool = False
    qualified: str = ""


@dataclass(slots=True, eq=False)
class CallNode(SyntaxNode):
    """A call of a function or an operator (`_+_`). target: the object of a method; None for a function.

    overloads: the signatures that fit the types of the arguments; set by the checker. The checker also removes `target`
    if it is the first part of the function's name instead of an object.
    """

    name: str
    target: SyntaxNode | None
    args: list[SyntaxNode]
    overloads: list[Overload] = field(default_factory=list)

    @property
    def all_args(self) -> list[SyntaxNode]:
        """Return the target, if there is one, and the arguments."""
        return [self.target, *self.args] if self.target is not None else self.args


@dataclass(slots=True, eq=False)
class ListExpr(SyntaxNode):
    """A list. optional: the indices of optional elements, which are left out if they have no value."""

    items: list[SyntaxNode]
    optional: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class MapExpr(SyntaxNode):
    """A map. optional: the indices of optional entries, which are left out if they have no value."""

    entries: list[tuple[SyntaxNode, SyntaxNode]]
    optional: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class Struct(SyntaxNode):
    """An object of a named type: `Object.spec{replicas: 1}`. optional: fields that may have no value."""

    name: str
    fields: list[tuple[str, SyntaxNode, int]]
    optional: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class Comprehension(SyntaxNode):
    """A macro over a list or a map, expanded as in cel-go's `parser/macro.go`.

    Attributes:
        kind: the macro: all, exists, existsOne, map, filter, transformMap, transformMapEntry or bind.
        variable, second: the variables of each iteration; `second` is "" for a macro with one variable.
        condition, step, result: the expansion, from which types and costs are computed.
        body: the expression that is evaluated in each iteration.
        filter: an iteration adds to the result only if this condition is true; None without a condition.
        accumulator: the variable of the result; for `bind`, the bound variable.
    """

    kind: str
    source: SyntaxNode
    variable: str
    second: str
    initial: SyntaxNode
    condition: SyntaxNode
    step: SyntaxNode
    result: SyntaxNode
    body: SyntaxNode
    filter: SyntaxNode | None = None
    accumulator: str = ACCUMULATOR


R = TypeVar("R")


class TreeWalk(ABC, Generic[R]):
    """Computes a result for each part of an expression, from the results of the parts inside it.

    Each part is visited once, even if the expansion of a macro contains the part twice. Otherwise, each level of nested
    macros would double the work.
    """

    def __init__(self) -> None:
        self._results: dict[int, R] = {}

    def visit(self, node: SyntaxNode) -> R:
        """Return the result for a part."""
        found = self._results.get(id(node))
        if found is None:
            found = self._results[id(node)] = self.finish(node, getattr(self, _METHODS[type(node)])(node))
        return found

    def finish(self, node: SyntaxNode, found: R) -> R:
        """Return the result to store for a part. found: the result of the part's `visit_...` method."""
        return found

    @abstractmethod
    def visit_literal(self, node: Literal) -> R:
        """Visit a constant."""

    @abstractmethod
    def visit_ident(self, node: Ident) -> R:
        """Visit a name."""

    @abstractmethod
    def visit_select(self, node: Select) -> R:
        """Visit a field."""

    @abstractmethod
    def visit_call(self, node: CallNode) -> R:
        """Visit a call of a function or an operator."""

    @abstractmethod
    def visit_list(self, node: ListExpr) -> R:
        """Visit a list."""

    @abstractmethod
    def visit_map(self, node: MapExpr) -> R:
        """Visit a map."""

    @abstractmethod
    def visit_struct(self, node: Struct) -> R:
        """Visit an object of a named type."""

    @abstractmethod
    def visit_comprehension(self, node: Comprehension) -> R:
        """Visit a macro over a list or a map."""


_METHODS: dict[type[SyntaxNode], str] = {
    Literal: "visit_literal",
    Ident: "visit_ident",
    Select: "visit_select",
    CallNode: "visit_call",
    ListExpr: "visit_list",
    MapExpr: "visit_map",
    Struct: "visit_struct",
    Comprehension: "visit_comprehension",
}


@dataclass(frozen=True, slots=True)
class _IssueAt:
    offset: int
    message: str


class Issues:
    """The errors of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: list[_IssueAt] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, offset: int, message: str) -> None:
        """Add an error at an offset."""
        self._count += 1
        if len(self._found) < _MOST_ISSUES:
            self._found.append(_IssueAt(offset, message))

    def __str__(self) -> str:
        """Return the errors in cel-go's format: place, message, the line, and a mark below the line."""
        lines = list(self._lines())
        if self._count > _MOST_ISSUES:
            lines.append(f"{self._count - _MOST_ISSUES} more errors were truncated")
        return "\n".join(lines)

    def _lines(self) -> Iterator[str]:
        for issue in sorted(self._found, key=lambda one: one.offset):
            start = self._text.rfind("\n", 0, issue.offset) + 1
            number = self._text.count("\n", 0, start) + 1
            column = issue.offset - start
            end = self._text.find("\n", start)
            snippet = (self._text[start:] if end < 0 else self._text[start:end]).replace("\t", " ")
            text = f"ERROR: <input>:{number}:{column + 1}: {issue.message}"
            if len(snippet) <= _LONGEST_SNIPPET:
                dots = "".join("." if one.isascii() else "\uff0e" for one in snippet[:column])
                mark = "^" if column >= len(snippet) or snippet[column].isascii() else "\uff3e"
                text += f"\n | {snippet}\n | {dots}{mark}"
            yield text


class ExpressionIssues(ValueError):
    """Raised for an expression that cannot be compiled. The text is the text of cel-go's `issues.String()`."""
