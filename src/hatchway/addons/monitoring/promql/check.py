"""Checks the types of an expression, with the error texts and positions of `checkAST` (`promql/parser/parse.go`)."""

from __future__ import annotations

from typing import NoReturn

from hatchway.addons.monitoring.promql.errors import QueryParseError
from hatchway.addons.monitoring.promql.golang import quote
from hatchway.addons.monitoring.promql.lexer import SET_OPERATORS
from hatchway.addons.monitoring.promql.nodes import (
    Aggregate,
    Binary,
    Expression,
    FunctionCall,
    MatrixSelector,
    Paren,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
    type_of,
)
from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME

COMPARISONS = frozenset({"==", "!=", "<=", "<", ">=", ">"})
_DOCUMENTED = {"vector": "instant vector", "matrix": "range vector"}
_SPACES = " \t\n\r"


def check(query: str, node: Expression) -> ValueType:
    """Check the types in an expression, and return the type of its value.

    Removes the matching from operations that are not between two vectors.

    Raises:
        QueryParseError: a part of the expression has a type that is not allowed.
    """
    return _TypeChecker(query).check(node)


def _documented(found: ValueType) -> str:
    return _DOCUMENTED.get(found, found)


class _TypeChecker:
    def __init__(self, query: str) -> None:
        self._query = query

    def _error(self, position: int, message: str) -> NoReturn:
        raise QueryParseError(self._query, position, message)

    def check(self, node: Expression) -> ValueType:
        match node:
            case Aggregate():
                self._aggregate(node)
            case Binary():
                self._binary(node)
            case FunctionCall():
                self._call(node)
            case Paren():
                self.check(node.expression)
            case Unary():
                found = self.check(node.expression)
                if found not in ("scalar", "vector"):
                    shown = quote(_documented(found))
                    self._error(
                        node.start,
                        f"unary expression only allowed on expressions of type scalar or instant vector, got {shown}",
                    )
            case Subquery():
                found = self.check(node.expression)
                if found != "vector":
                    self._error(node.start, f"subquery is only allowed on instant vector, got {found} instead")
            case MatrixSelector():
                self.check(node.selector)
            case VectorSelector():
                self._selector(node)
        return type_of(node)

    def _expect(self, node: Expression, wanted: ValueType, context: str) -> None:
        found = self.check(node)
        if found != wanted:
            self._error(node.start, f"expected type {_documented(wanted)} in {context}, got {_documented(found)}")

    def _aggregate(self, node: Aggregate) -> None:
        self._expect(node.expression, "vector", "aggregation expression")
        if node.parameter is not None:
            wanted: ValueType = "string" if node.operator == "count_values" else "scalar"
            self._expect(node.parameter, wanted, "aggregation parameter")

    def _binary(self, node: Binary) -> None:
        left, right = self.check(node.left), self.check(node.right)
        at = node.left.end
        while self._query[at : at + 1] and self._query[at] in _SPACES:
            at += 1
        matching = node.matching
        comparing, joining = node.operator in COMPARISONS, node.operator in SET_OPERATORS
        if node.returns_bool and not comparing:
            self._error(at, "bool modifier can only be used on comparison operators")
        if comparing and not node.returns_bool and left == right == "scalar":
            self._error(at, "comparisons between scalars must use BOOL modifier")
        if matching is not None:
            if joining and matching.cardinality == "one-to-one":
                matching.cardinality = "many-to-many"
            for label in matching.labels:
                if matching.on and label in matching.include:
                    self._error(at, f"label {quote(label)} must not occur in ON and GROUP clause at once")
        for side, found in ((node.left, left), (node.right, right)):
            if found not in ("scalar", "vector"):
                self._error(side.start, "binary expression must contain only scalar and instant vector types")
        if (left != "vector" or right != "vector") and matching is not None:
            if matching.labels:
                self._error(node.start, "vector matching only allowed between instant vectors")
            node.matching = None
        elif joining and matching is not None and matching.cardinality != "many-to-many":
            self._error(node.start, f"no grouping allowed for {quote(node.operator)} operation")
        if "scalar" in (left, right) and joining:
            self._error(node.start, f"set operator {quote(node.operator)} not allowed in binary scalar expression")

    def _call(self, node: FunctionCall) -> None:
        function, given = node.function, len(node.arguments)
        count, name = len(function.arguments), quote(function.name)
        if not function.variadic:
            if given != count:
                self._error(node.start, f"expected {count} argument(s) in call to {name}, got {given}")
        elif given < count - 1:
            self._error(node.start, f"expected at least {count - 1} argument(s) in call to {name}, got {given}")
        elif function.variadic > 0 and given > count - 1 + function.variadic:
            most = count - 1 + function.variadic
            self._error(node.start, f"expected at most {most} argument(s) in call to {name}, got {given}")
        for position, argument in enumerate(node.arguments):
            self._expect(argument, function.arguments[min(position, count - 1)], f"call to function {name}")

    def _selector(self, node: VectorSelector) -> None:
        if node.name:
            for matcher in node.matchers[:-1]:
                if matcher.name == METRIC_NAME:
                    twice = f"metric name must not be set twice: {quote(node.name)} or {quote(matcher.value)}"
                    self._error(node.start, twice)
        elif all(matcher.matches_empty for matcher in node.matchers):
            self._error(node.start, "vector selector must contain at least one non-empty matcher")
