"""Parses PromQL, with the error texts and positions of Prometheus (`promql/parser/generated_parser.y`).

The first error is raised. As in Prometheus, some messages name the innermost context of the error.
"""

from __future__ import annotations

import math
import re
from typing import NoReturn

from hatchway.addons.monitoring.promql.check import check
from hatchway.addons.monitoring.promql.errors import QueryParseError
from hatchway.addons.monitoring.promql.golang import parse_duration, parse_float, quote, unquote
from hatchway.addons.monitoring.promql.lexer import AGGREGATORS, PREPROCESSORS, SET_OPERATORS, QueryLexer, QueryToken
from hatchway.addons.monitoring.promql.nodes import (
    Aggregate,
    Binary,
    Expression,
    FunctionCall,
    MatrixSelector,
    Modified,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
    height,
)
from hatchway.addons.monitoring.promql.signatures import FUNCTIONS
from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME
from hatchway.addons.monitoring.tsdb.matchers import ExpressionError, Matcher, MatchType

# The most nested expressions, and the largest height of the tree (`a + b + c ...` makes a high tree without nesting).
# Without these limits, a query could exhaust Python's stack.
_DEEPEST = 100
_HIGHEST = 150
_LONGEST = 1 << 20
_COMPARISONS = ("==", "!=", "<=", "<", ">=", ">")
_POWER, _UNARY = 6, 5
_PRECEDENCE = {
    "or": 1, "and": 2, "unless": 2, **dict.fromkeys(_COMPARISONS, 3), "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
    "atan2": 5, "^": _POWER,
}  # fmt: skip
_METRIC_WORDS = (
    AGGREGATORS | PREPROCESSORS | SET_OPERATORS | {"identifier", "metric identifier", "by", "offset", "without"}
)
_LABEL_WORDS = (_METRIC_WORDS | {"bool", "group_left", "group_right", "ignoring", "on", "atan2"}) - {"without"}
_STARTS = _METRIC_WORDS | {"number", "string", "(", "{", "+", "-"}
_MATCH_OPERATORS: dict[str, MatchType] = {"=": "=", "!=": "!=", "=~": "=~", "!~": "!~"}
_label_name = re.compile("[a-zA-Z_][a-zA-Z0-9_]*").fullmatch
_integer = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*").fullmatch


def parse(query: str) -> Expression:
    """Parse a query, check its types, and return its syntax tree. Raises QueryParseError."""
    parser = _QueryParser(query)
    if parser.token.kind == "end of input":
        raise QueryParseError(query, 0, "no expression found in input")
    found = parser.expression(0)
    if parser.token.kind != "end of input":
        parser.unexpected()
    if height(found) > _HIGHEST:
        raise QueryParseError(query, 0, f"more than {_HIGHEST} expressions are nested in each other")
    check(query, found)
    return found


def parse_selector(query: str) -> list[Matcher]:
    """Parse a selector (`match[]`), and return its matchers. Raises QueryParseError."""
    parser = _QueryParser(query)
    if parser.token.kind not in _METRIC_WORDS | {"{"}:
        parser.unexpected()
    found = parser.selector()
    if parser.token.kind != "end of input":
        parser.unexpected()
    return found.matchers


class _QueryParser:
    """A recursive-descent parser with operator precedence. token: the next token, which is not consumed yet."""

    def __init__(self, query: str) -> None:
        if len(query) > _LONGEST:
            raise QueryParseError("", 0, f"the query is longer than {_LONGEST} characters")
        self.query = query
        self._lexer = QueryLexer(query)
        self._aggregations = 0
        self._depth = 0
        self._closing = 0
        self.token = self._lexer.next()

    def _advance(self) -> QueryToken:
        token = self.token
        if token.kind in ("}", ")", "]", "duration", "number"):
            self._closing = token.end
        self.token = self._lexer.next()
        return token

    def unexpected(self, context: str = "", expected: str = "", token: QueryToken | None = None) -> NoReturn:
        """Raise the error about the next token."""
        token = token or self.token
        if not context and self._aggregations:
            context = "aggregation"
        message = f"unexpected {token.describe()}"
        message += f" in {context}" if context else ""
        message += f", expected {expected}" if expected else ""
        raise QueryParseError(self.query, token.position, message)

    def _error(self, position: int, message: str) -> NoReturn:
        raise QueryParseError(self.query, position, message)

    def _expect(self, kind: str) -> QueryToken:
        if self.token.kind != kind:
            self.unexpected()
        return self._advance()

    # Expressions

    def expression(self, binding: int) -> Expression:
        """Parse an expression whose operators bind more tightly than `binding`."""
        self._depth += 1
        if self._depth > _DEEPEST:
            self._error(self.token.position, f"expressions are nested more than {_DEEPEST} times")
        left = self._postfix(self._primary())
        while True:
            operator = self.token.kind
            precedence = _PRECEDENCE.get(operator, 0)
            if precedence <= binding:
                break
            self._advance()
            returns_bool, matching = self._modifiers()
            right = self.expression(precedence - 1 if operator == "^" else precedence)
            left = Binary(left.start, right.end, operator, left, right, returns_bool, matching)
        self._depth -= 1
        return left

    def _modifiers(self) -> tuple[bool, VectorMatching]:
        returns_bool = self.token.kind == "bool"
        if returns_bool:
            self._advance()
        matching = VectorMatching()
        if self.token.kind in ("on", "ignoring"):
            matching.on = self._advance().kind == "on"
            matching.labels = self._grouping()
            if self.token.kind in ("group_left", "group_right"):
                left = self._advance().kind == "group_left"
                matching.cardinality = "many-to-one" if left else "one-to-many"
                if self.token.kind == "(":
                    matching.include = self._grouping()
        return returns_bool, matching

    def _grouping(self) -> list[str]:
        if self.token.kind != "(":
            self.unexpected("grouping opts", '"("')
        self._advance()
        labels: list[str] = []
        while self.token.kind != ")":
            if self.token.kind not in _LABEL_WORDS or not _label_name(self.token.text):
                self.unexpected("grouping opts", "label")
            labels.append(self._advance().text)
            if self.token.kind == ",":
                self._advance()
            elif self.token.kind != ")":
                self.unexpected("grouping opts", '"," or ")"')
        self._advance()
        return labels

    def _primary(self) -> Expression:
        token = self.token
        match token.kind:
            case "number":
                self._advance()
                return NumberLiteral(token.position, token.end, self._number(token))
            case "string":
                self._advance()
                return StringLiteral(token.position, token.end, unquote(token.text))
            case "(":
                self._advance()
                inner = self.expression(0)
                closing = self._expect(")")
                return Paren(token.position, closing.end, inner)
            case "+" | "-":
                self._advance()
                inner = self.expression(_UNARY)
                if isinstance(inner, NumberLiteral):
                    inner.value = -inner.value if token.kind == "-" else inner.value
                    inner.start = token.position
                    return inner
                return Unary(token.position, inner.end, token.kind, inner)
            case "{":
                return self.selector()
        if token.kind not in _METRIC_WORDS:
            self.unexpected()
        if token.kind in AGGREGATORS:
            return self._aggregation_or_selector()
        if token.kind == "identifier":
            name = self._advance()
            return self._call(name) if self.token.kind == "(" else self._selector(name)
        return self.selector()

    def _number(self, token: QueryToken) -> float:
        text = token.text
        if _integer(text):
            digits = text.lower()
            value = int(digits, 8 if digits[0] == "0" and len(digits) > 1 and digits[1] != "x" else 0)
            if value < 1 << 63:
                return float(value)
        try:
            return parse_float(text)
        except ValueError as error:
            self._error(token.position, f"error parsing number: {error}")

    # Selectors

    def selector(self) -> VectorSelector:
        """Parse a selector: a metric's name, matchers in braces, or both."""
        name = self._advance() if self.token.kind != "{" else None
        return self._selector(name)

    def _selector(self, name: QueryToken | None) -> VectorSelector:
        start = name.position if name else self.token.position
        end = name.end if name else start
        matchers: list[Matcher] = []
        if self.token.kind == "{":
            self._advance()
            while self.token.kind != "}":
                matchers.append(self._matcher())
                if self.token.kind == ",":
                    self._advance()
                elif self.token.kind != "}":
                    self.unexpected("label matching", '"," or "}"')
            end = self._advance().end
        if name:
            matchers.append(Matcher("=", METRIC_NAME, name.text))
        return VectorSelector(start, end, name.text if name else "", matchers)

    def _matcher(self) -> Matcher:
        if self.token.kind != "identifier":
            self.unexpected("label matching", 'identifier or "}"')
        label = self._advance()
        operator = _MATCH_OPERATORS.get(self.token.kind)
        if operator is None:
            self.unexpected("label matching", "label matching operator")
        self._advance()
        if self.token.kind != "string":
            self.unexpected("label matching", "string")
        # The matcher is made before the next token is read, so that an error of the matcher is raised first.
        value = unquote(self.token.text)
        try:
            found = Matcher(operator, label.text, value)
        except ExpressionError as error:
            self._error(label.position, f"error parsing regexp: {error}")
        self._advance()
        return found

    # Calls and aggregations

    def _call(self, name: QueryToken) -> FunctionCall:
        arguments = self._arguments(last=True)
        function = FUNCTIONS.get(name.text)
        if function is None:
            self._error(name.position, f"unknown function with name {quote(name.text)}")
        end = self._closing
        self.token = self._lexer.next()
        return FunctionCall(name.position, end, function, arguments)

    def _arguments(self, *, last: bool = False) -> list[Expression]:
        """Parse arguments in parentheses. last: True to leave the token after them unread."""
        self._advance()
        arguments: list[Expression] = []
        if self.token.kind != ")":
            arguments.append(self.expression(0))
            while self.token.kind == ",":
                comma = self._advance()
                if self.token.kind not in _STARTS:
                    self._error(comma.position, "trailing commas not allowed in function call args")
                arguments.append(self.expression(0))
            if self.token.kind != ")":
                self.unexpected()
        if last:
            self._closing = self.token.end
        else:
            self._advance()
        return arguments

    def _aggregation_or_selector(self) -> Expression:
        operator = self._advance()
        if self.token.kind not in ("(", "by", "without"):
            return self._selector(operator)
        self._aggregations += 1
        grouping, without = self._aggregate_modifier() if self.token.kind != "(" else (None, False)
        if self.token.kind != "(":
            self.unexpected()
        arguments = self._arguments()
        self._aggregations -= 1
        if grouping is None and self.token.kind in ("by", "without"):
            self._aggregations += 1
            grouping, without = self._aggregate_modifier()
            self._aggregations -= 1
        start, end = operator.position, self._closing
        if not arguments:
            self._error(start, "no arguments for aggregate expression provided")
        wanted = 2 if operator.kind in ("topk", "bottomk", "count_values", "quantile") else 1
        if len(arguments) != wanted:
            self._error(
                start,
                f"wrong number of arguments for aggregate expression provided, expected {wanted}, got {len(arguments)}",
            )
        parameter = arguments[0] if wanted == 2 else None
        return Aggregate(start, end, operator.kind, arguments[-1], parameter, grouping or [], without)

    def _aggregate_modifier(self) -> tuple[list[str], bool]:
        without = self._advance().kind == "without"
        return self._grouping(), without

    # Ranges, offset, @

    def _postfix(self, found: Expression) -> Expression:
        while True:
            match self.token.kind:
                case "[":
                    found = self._range(found)
                case "offset":
                    self._advance()
                    self._offset(found)
                case "@":
                    self._advance()
                    self._at(found)
                case _:
                    return found

    def _milliseconds(self) -> int:
        token = self.token
        try:
            found = parse_duration(token.text)
        except ValueError as error:
            self._error(token.position, str(error))
        if not found:
            self._error(token.position, "duration must be greater than 0")
        self._advance()
        return found

    def _range(self, found: Expression) -> Expression:
        opening = self._advance()
        if self.token.kind != "duration":
            self.unexpected("subquery selector", "duration")
        length = self._milliseconds()
        if self.token.kind == ":":
            self._advance()
            step = 0
            if self.token.kind == "duration":
                step = self._milliseconds()
                if self.token.kind != "]":
                    self.unexpected("subquery selector", '"]"')
            elif self.token.kind != "]":
                self.unexpected("subquery selector", 'duration or "]"')
            closing = self._advance()
            return Subquery(found.start, closing.end, found, length, step)
        if self.token.kind != "]":
            self.unexpected("subquery or range", '":" or "]"')
        if not isinstance(found, VectorSelector):
            self._error(opening.position, "ranges only allowed for vector selectors")
        if found.offset:
            self._error(opening.position, "no offset modifiers allowed before range")
        if found.timestamp is not None:
            self._error(opening.position, "no @ modifiers allowed before range")
        closing = self._advance()
        return MatrixSelector(found.start, closing.end, found, length)

    def _modified(self, found: Expression, modifier: str) -> Modified:
        selector = found.selector if isinstance(found, MatrixSelector) else found
        if not isinstance(selector, VectorSelector | Subquery):
            self._error(
                found.start,
                f"{modifier} modifier must be preceded by an instant vector selector or range vector selector"
                " or a subquery",
            )
        return selector

    def _offset(self, found: Expression) -> None:
        negative = self.token.kind == "-"
        if negative:
            self._advance()
        if self.token.kind != "duration":
            self.unexpected("offset", "duration")
        offset = self._milliseconds()
        target = self._modified(found, "offset")
        if target.offset:
            self._error(found.start, "offset may not be set multiple times")
        target.offset = -offset if negative else offset
        found.end = self._closing

    def _at(self, found: Expression) -> None:
        if self.token.kind in PREPROCESSORS:
            preprocessor = self._advance().kind
            if self.token.kind != "(":
                self.unexpected("@", "timestamp")
            self._advance()
            if self.token.kind != ")":
                self.unexpected("@", "timestamp")
            self._advance()
            target = self._modified(found, "@")
            self._check_at(found, target)
            target.preprocessor = preprocessor
        else:
            sign = self._advance().kind if self.token.kind in ("+", "-") else "+"
            if self.token.kind != "number":
                self.unexpected("@", "timestamp")
            seconds = self._number(self._advance()) * (-1 if sign == "-" else 1)
            if not math.isfinite(seconds) or abs(seconds) >= 2**63:
                shown = "+Inf" if seconds == math.inf else "-Inf" if seconds == -math.inf else f"{seconds:f}"
                shown = "NaN" if seconds != seconds else shown
                self._error(found.start, f"timestamp out of bounds for @ modifier: {shown}")
            target = self._modified(found, "@")
            self._check_at(found, target)
            target.timestamp = math.floor(seconds * 1000 + 0.5) if seconds >= 0 else -math.floor(0.5 - seconds * 1000)
        found.end = self._closing

    def _check_at(self, found: Expression, target: Modified) -> None:
        if target.timestamp is not None or target.preprocessor:
            self._error(found.start, "@ <timestamp> may not be set multiple times")
