"""Prints expressions in one style, long ones over several lines (`promql/parser/printer.go`, `prettier.go`)."""

from __future__ import annotations

from hatchway.addons.monitoring.promql.golang import format_duration, format_general, quote
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
    VectorSelector,
)
from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME

# Expressions that are longer than this are split over several lines.
_LINE = 100


def pretty(node: Expression, level: int = 0) -> str:
    """Return an expression in the form of Prometheus' `format_query`. level: the level of indentation."""
    indent = "  " * level
    text = one_line(node)
    split = len(text.encode()) > _LINE
    match node:
        case Unary():
            return f"{indent}{node.operator}{pretty(node.expression, level).strip()}"
        case Subquery() if split:
            return f"{pretty(node.expression, level)}{_subquery_suffix(node)}"
        case Subquery():
            return text
        case Aggregate() if split:
            parameter = f"{pretty(node.parameter, level + 1)},\n" if node.parameter is not None else ""
            return f"{indent}{_aggregation(node)}(\n{parameter}{pretty(node.expression, level + 1)}\n{indent})"
        case Binary() if split:
            operator = f"{indent}{node.operator}{' bool' if node.returns_bool else ''}{_matching(node)}"
            return f"{pretty(node.left, level + 1)}\n{operator}\n{pretty(node.right, level + 1)}"
        case FunctionCall() if split:
            arguments = ",\n".join([pretty(argument, level + 1) for argument in node.arguments])
            return f"{indent}{node.function.name}(\n{arguments}\n{indent})"
        case Paren() if split:
            return f"{indent}(\n{pretty(node.expression, level + 1)}\n{indent})"
    return indent + text


def one_line(node: Expression) -> str:
    """Return an expression in one line."""
    match node:
        case NumberLiteral():
            return format_general(node.value)
        case StringLiteral():
            return quote(node.value)
        case VectorSelector():
            return _selector(node) + _modifiers(node)
        case MatrixSelector():
            return f"{_selector(node.selector)}[{format_duration(node.range)}]{_modifiers(node.selector)}"
        case Subquery():
            return one_line(node.expression) + _subquery_suffix(node)
        case Paren():
            return f"({one_line(node.expression)})"
        case Unary():
            return node.operator + one_line(node.expression)
        case Binary():
            middle = f"{node.operator}{' bool' if node.returns_bool else ''}{_matching(node)}"
            return f"{one_line(node.left)} {middle} {one_line(node.right)}"
        case Aggregate():
            parameter = f"{one_line(node.parameter)}, " if node.parameter is not None else ""
            return f"{_aggregation(node)}({parameter}{one_line(node.expression)})"
        case FunctionCall():
            return f"{node.function.name}({', '.join([one_line(argument) for argument in node.arguments])})"


def _selector(node: VectorSelector) -> str:
    matchers = node.matchers[:-1] if node.name else node.matchers
    shown = [
        f"{one.name}{one.type}{quote(one.value)}" for one in matchers if not (node.name and one.name == METRIC_NAME)
    ]
    return node.name + (f"{{{','.join(sorted(shown))}}}" if shown else "" if node.name else "{}")


def _modifiers(node: Modified) -> str:
    found = ""
    if node.timestamp is not None:
        found += f" @ {node.timestamp / 1000:.3f}"
    elif node.preprocessor:
        found += f" @ {node.preprocessor}()"
    if node.offset:
        found += f" offset {'-' if node.offset < 0 else ''}{format_duration(abs(node.offset))}"
    return found


def _subquery_suffix(node: Subquery) -> str:
    step = format_duration(node.step) if node.step else ""
    return f"[{format_duration(node.range)}:{step}]{_modifiers(node)}"


def _aggregation(node: Aggregate) -> str:
    if node.without:
        return f"{node.operator} without ({', '.join(node.grouping)}) "
    return f"{node.operator} by ({', '.join(node.grouping)}) " if node.grouping else node.operator


def _matching(node: Binary) -> str:
    matching = node.matching
    if matching is None or not (matching.labels or matching.on):
        return ""
    found = f" {'on' if matching.on else 'ignoring'} ({', '.join(matching.labels)})"
    if matching.cardinality in ("many-to-one", "one-to-many"):
        side = "group_left" if matching.cardinality == "many-to-one" else "group_right"
        found += f" {side} ({', '.join(matching.include)})"
    return found
