"""The syntax tree of PromQL (`promql/parser/ast.go`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hatchway.addons.monitoring.tsdb.matchers import Matcher

ValueType = Literal["none", "scalar", "vector", "matrix", "string"]
Cardinality = Literal["one-to-one", "many-to-one", "one-to-many", "many-to-many"]


@dataclass(slots=True)
class Node:
    """An expression. start, end: its offsets in the query, in characters."""

    start: int
    end: int


@dataclass(slots=True)
class NumberLiteral(Node):
    """A number."""

    value: float


@dataclass(slots=True)
class StringLiteral(Node):
    """A string."""

    value: str


@dataclass(slots=True)
class Modified(Node):
    """An expression that may have modifiers.

    offset: the offset in milliseconds; 0 without one.
    timestamp: the time after `@`, in milliseconds; None without one.
    preprocessor: `start` or `end` for `@ start()` or `@ end()`; "" without.
    """

    offset: int = field(default=0, kw_only=True)
    timestamp: int | None = field(default=None, kw_only=True)
    preprocessor: str = field(default="", kw_only=True)


@dataclass(slots=True)
class VectorSelector(Modified):
    """A selector. name: the metric's name before the braces; "" without one. The last matcher is for this name."""

    name: str
    matchers: list[Matcher]


@dataclass(slots=True)
class MatrixSelector(Node):
    """A selector with a range. range: milliseconds. The modifiers are in `selector`."""

    selector: VectorSelector
    range: int


@dataclass(slots=True)
class Subquery(Modified):
    """A subquery. range: milliseconds. step: milliseconds; 0 for the default."""

    expression: Expression
    range: int
    step: int


@dataclass(slots=True)
class Paren(Node):
    """An expression in parentheses."""

    expression: Expression


@dataclass(slots=True)
class Unary(Node):
    """A sign. operator: `+` or `-`."""

    operator: str
    expression: Expression


@dataclass(slots=True)
class VectorMatching:
    """How the series of two vectors are matched.

    on: True: series are matched by `labels`; False: by all labels except these.
    include: the labels in `group_left(...)` or `group_right(...)`.
    """

    cardinality: Cardinality = "one-to-one"
    on: bool = False
    labels: list[str] = field(default_factory=list)
    include: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Binary(Node):
    """A binary operation. matching: only for an operation between two vectors (`check` removes it otherwise)."""

    operator: str
    left: Expression
    right: Expression
    returns_bool: bool
    matching: VectorMatching | None


@dataclass(slots=True)
class Aggregate(Node):
    """An aggregation. parameter: the first argument of topk, bottomk, quantile and count_values; None for others."""

    operator: str
    expression: Expression
    parameter: Expression | None
    grouping: list[str]
    without: bool


@dataclass(slots=True)
class FunctionCall(Node):
    """A function call."""

    function: Function
    arguments: list[Expression]


@dataclass(frozen=True, slots=True)
class Function:
    """A function's signature.

    arguments: the types of the arguments. If `variadic` is not 0, the last argument is optional.
    variadic: how many arguments of the last type there may be; -1 for any number.
    """

    name: str
    arguments: tuple[ValueType, ...]
    returns: ValueType
    variadic: int = 0


Expression = (
    NumberLiteral
    | StringLiteral
    | VectorSelector
    | MatrixSelector
    | Subquery
    | Paren
    | Unary
    | Binary
    | Aggregate
    | FunctionCall
)


def children(node: Expression) -> list[Expression]:
    """Return the expressions that are direct parts of an expression."""
    match node:
        case Subquery() | Paren() | Unary():
            return [node.expression]
        case MatrixSelector():
            return [node.selector]
        case Binary():
            return [node.left, node.right]
        case Aggregate():
            return [node.expression] if node.parameter is None else [node.parameter, node.expression]
        case FunctionCall():
            return node.arguments
    return []


def height(node: Expression) -> int:
    """Return the height of an expression's tree. It does not use recursion, so any height is possible."""
    found = 0
    level = [node]
    while level:
        found += 1
        level = [child for parent in level for child in children(parent)]
    return found


def type_of(node: Expression) -> ValueType:
    """Return the type of an expression's value."""
    match node:
        case NumberLiteral():
            return "scalar"
        case StringLiteral():
            return "string"
        case VectorSelector() | Aggregate():
            return "vector"
        case MatrixSelector() | Subquery():
            return "matrix"
        case Paren() | Unary():
            return type_of(node.expression)
        case Binary():
            both = type_of(node.left) == "scalar" and type_of(node.right) == "scalar"
            return "scalar" if both else "vector"
        case FunctionCall():
            return node.function.returns
