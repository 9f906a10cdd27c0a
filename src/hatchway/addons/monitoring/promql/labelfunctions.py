"""Computes `label_replace`, `label_join` and the labels of `absent` (`promql/functions.go`)."""

from __future__ import annotations

import re

from hatchway.addons.monitoring.promql.errors import PromqlError
from hatchway.addons.monitoring.promql.grid import QueryBudget, Row, unique
from hatchway.addons.monitoring.promql.nodes import Expression, MatrixSelector, Paren, VectorSelector
from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME, Labels, make_labels, value_of, with_label
from hatchway.addons.monitoring.tsdb.matchers import ExpressionError, whole_expression

# The maximum number of characters of a label's value that a function makes: nested calls could double the value again
# and again.
_LONGEST = 64 * 1024
_label_name = re.compile("[a-zA-Z_][a-zA-Z0-9_]*").fullmatch
# References in a template of Go's regexp: `$$`, `$name`, `${name}`. A name is as long as possible.
_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


def replaced(
    rows: list[Row], target: str, template: str, source: str, expression: str, budget: QueryBudget
) -> list[Row]:
    """Compute `label_replace`. Raises PromqlError."""
    try:
        compiled = whole_expression(expression, capture=True)
    except ExpressionError:
        raise PromqlError(f"invalid regular expression in label_replace(): {expression}") from None
    if not _label_name(target):
        raise PromqlError(f"invalid destination label name in label_replace(): {target}")
    known: dict[str, str | None] = {}
    out = []
    for row in rows:
        text = value_of(row.labels, source)
        if text not in known:
            groups = compiled.groups(text)
            known[text] = None if groups is None else _expanded(template, dict(groups))
        value = known[text]
        budget.take(_cost(value or ""))
        out.append(row if value is None else Row(with_label(row.labels, target, value), row.values))
    return unique(out)


def _expanded(template: str, groups: dict[str, str]) -> str:
    length = 0

    def reference(found: re.Match[str]) -> str:
        nonlocal length
        text = "$" if found[1] else groups.get(found[2] or found[3], "")
        length += len(text)
        _check_length(length)
        return text

    _check_length(len(template))
    return _REFERENCE.sub(reference, template)


def joined(rows: list[Row], target: str, separator: str, sources: list[str], budget: QueryBudget) -> list[Row]:
    """Compute `label_join`. Raises PromqlError."""
    for source in sources:
        if not _label_name(source):
            raise PromqlError(f"invalid source label name in label_join(): {source}")
    if not _label_name(target):
        raise PromqlError(f"invalid destination label name in label_join(): {target}")
    out = []
    for row in rows:
        values = [value_of(row.labels, source) for source in sources]
        _check_length(sum(map(len, values)) + len(separator) * max(len(sources) - 1, 0))
        value = separator.join(values)
        budget.take(_cost(value))
        out.append(Row(with_label(row.labels, target, value), row.values))
    return unique(out)


def _check_length(length: int) -> None:
    if length > _LONGEST:
        raise PromqlError(f"the value of a label would be longer than {_LONGEST} characters")


def _cost(text: str) -> int:
    """Return for how many values a text counts in the budget."""
    return 1 + (len(text) >> 5)


def absent_labels(node: Expression) -> Labels:
    """Return the labels of `absent(node)`: each label for which the selector has exactly one matcher, with `=`."""
    while isinstance(node, Paren):
        node = node.expression
    selector = node.selector if isinstance(node, MatrixSelector) else node
    if not isinstance(selector, VectorSelector):
        return ()
    found: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in selector.matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.type == "=" and matcher.name not in seen:
            found[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            found.pop(matcher.name, None)
    return make_labels(found.items())
