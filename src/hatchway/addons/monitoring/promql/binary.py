"""Binary operators: arithmetic, comparisons and set operations, with the matching of vectors (`promql/engine.go`)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from hatchway.addons.monitoring.promql.check import COMPARISONS
from hatchway.addons.monitoring.promql.errors import PromqlError
from hatchway.addons.monitoring.promql.golang import quote
from hatchway.addons.monitoring.promql.grid import Row, Values, unique
from hatchway.addons.monitoring.promql.mathematics import divide, modulo, power
from hatchway.addons.monitoring.promql.nodes import VectorMatching
from hatchway.addons.monitoring.tsdb.labels import (
    METRIC_NAME,
    Labels,
    only,
    value_of,
    with_label,
    without,
    without_name,
)

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
    "%": modulo,
    "^": power,
    "atan2": math.atan2,
}
# Operators whose results have no metric's name. As in Prometheus, atan2 is not one of them.
_NAMELESS = frozenset({"+", "-", "*", "/", "%", "^"})
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def scalars(name: str, left: list[float], right: list[float]) -> list[float]:
    """Compute an operation between scalars at each step. Comparisons give 0 or 1."""
    if name in COMPARISONS:
        compare = _COMPARE[name]
        return [float(compare(a, b)) for a, b in zip(left, right, strict=True)]
    return list(map(_ARITHMETIC[name], left, right))


def with_scalar(name: str, rows: list[Row], scalar: list[float], scalar_left: bool, returns_bool: bool) -> list[Row]:
    """Compute an operation between a vector and a scalar.

    scalar_left: the scalar is the left operand. returns_bool: a comparison gives 0 or 1 instead of filtering.
    """
    out = []
    for row in rows:
        values: Values
        if name in COMPARISONS:
            compare = _COMPARE[name]
            values = []
            for value, other in zip(row.values, scalar, strict=True):
                if value is None:
                    values.append(None)
                    continue
                holds = compare(other, value) if scalar_left else compare(value, other)
                # A comparison keeps the vector's value, also when the vector is the right operand.
                values.append(float(holds) if returns_bool else value if holds else None)
        else:
            function = _ARITHMETIC[name]
            pairs = zip(row.values, scalar, strict=True)
            if scalar_left:
                values = [None if one is None else function(other, one) for one, other in pairs]
            else:
                values = [None if one is None else function(one, other) for one, other in pairs]
        keeps_name = name not in _NAMELESS and not returns_bool
        out.append(Row(row.labels if keeps_name else without_name(row.labels), values))
    return unique(out)


def signature_of(matching: VectorMatching) -> Callable[[Labels], Labels]:
    """Return a function that returns the labels by which a series is matched."""
    names = frozenset(matching.labels)
    if matching.on:
        return lambda labels: only(labels, names)
    ignored = names | {METRIC_NAME}
    return lambda labels: without(labels, ignored)


def join_sets(name: str, left: list[Row], right: list[Row], matching: VectorMatching) -> list[Row]:
    """Compute `and`, `or` or `unless` between two vectors."""
    signature = signature_of(matching)
    # `or` adds values of the right side at steps at which the left side has none. `and` and `unless` filter the left
    # side.
    kept, other = (right, left) if name == "or" else (left, right)
    present: dict[Labels, list[bool]] = {}
    for row in other:
        key = signature(row.labels)
        flags = [value is not None for value in row.values]
        known = present.get(key)
        present[key] = flags if known is None else [a or b for a, b in zip(known, flags, strict=True)]
    out = list(left) if name == "or" else []
    for row in kept:
        flags_of = present.get(signature(row.labels))
        if flags_of is None:
            if name != "and":
                out.append(row)
            continue
        wanted = name == "and"
        pairs = zip(row.values, flags_of, strict=True)
        out.append(Row(row.labels, [value if flag is wanted else None for value, flag in pairs]))
    return unique(out)


class VectorOperation:
    """An arithmetic operation or a comparison between two vectors.

    Args:
        name: the operator.
        matching: how series are matched.
        returns_bool: the comparison gives 0 or 1 instead of filtering.
    """

    def __init__(self, name: str, matching: VectorMatching, returns_bool: bool) -> None:
        self._name = name
        self._matching = matching
        self._bool = returns_bool
        self._swapped = matching.cardinality == "one-to-many"
        self._signature = signature_of(matching)

    def apply(self, left: list[Row], right: list[Row]) -> list[Row]:
        """Compute the operation. Raises PromqlError when the series do not match uniquely."""
        many, one = (right, left) if self._swapped else (left, right)
        by_signature: dict[Labels, list[Row]] = {}
        for row in one:
            by_signature.setdefault(self._signature(row.labels), []).append(row)
        doubles = {key: rows for key, rows in by_signature.items() if len(rows) > 1}
        if doubles:
            # Duplicates on one side are an error only at steps at which the other side has values.
            matters = [
                any(value is not None for value in column) for column in zip(*[row.values for row in many], strict=True)
            ]
            for key, rows in doubles.items():
                self._check_one(key, rows, matters)
        out: list[Row] = []
        # (labels of the match, labels of the result) → for each step, True if it has a result. In a one-to-one match,
        # the second part of the key is ().
        matched: dict[tuple[Labels, Labels], list[bool]] = {}
        for row in many:
            signature = self._signature(row.labels)
            for other in by_signature.get(signature, ()):
                values = self._values(row, other)
                labels = self._labels(row.labels, other.labels)
                self._note(matched, signature, labels, values, row, other)
                out.append(Row(labels, values))
        return unique(out)

    def _check_one(self, key: Labels, rows: list[Row], matters: list[bool]) -> None:
        for step in [step for step, flag in enumerate(matters) if flag]:
            present = [row for row in rows if row.values[step] is not None]
            if len(present) > 1:
                side = "left" if self._swapped else "right"
                raise PromqlError(
                    f"found duplicate series for the match group {show(key)} on the {side} hand-side of the operation: "
                    f"[{show(present[1].labels)}, {show(present[0].labels)}]"
                    ";many-to-many matching not allowed: matching labels must be unique on one side"
                )

    def _values(self, row: Row, other: Row) -> Values:
        first, second = (other.values, row.values) if self._swapped else (row.values, other.values)
        if self._name in COMPARISONS:
            compare, returns_bool = _COMPARE[self._name], self._bool
            out: Values = []
            for a, b in zip(first, second, strict=True):
                if a is None or b is None:
                    out.append(None)
                elif returns_bool:
                    out.append(float(compare(a, b)))
                else:
                    out.append(a if compare(a, b) else None)
            return out
        function = _ARITHMETIC[self._name]
        if None in first or None in second:
            pairs = zip(first, second, strict=True)
            return [None if a is None or b is None else function(a, b) for a, b in pairs]
        return list(map(function, first, second))  # type: ignore[arg-type]

    def _labels(self, many: Labels, one: Labels) -> Labels:
        matching = self._matching
        found = without_name(many) if self._name in _NAMELESS or self._bool else many
        if matching.cardinality == "one-to-one":
            found = only(found, matching.labels) if matching.on else without(found, matching.labels)
        for label in matching.include:
            found = with_label(found, label, value_of(one, label))
        return found

    def _note(
        self,
        matched: dict[tuple[Labels, Labels], list[bool]],
        signature: Labels,
        labels: Labels,
        values: Values,
        row: Row,
        other: Row,
    ) -> None:
        """Record which steps have a match. Raises PromqlError when a step has two matches."""
        single = self._matching.cardinality == "one-to-one"
        key = (signature, () if single else labels)
        flags = [value is not None for value in values]
        if key not in matched:
            matched[key] = flags
            return
        if any(a and b for a, b in zip(matched[key], flags, strict=True)):
            if single:
                message = "many-to-one matching must be explicit (group_left/group_right)"
            else:
                message = "grouping labels must ensure unique matches"
            raise PromqlError(f"multiple matches for labels: {message}")
        matched[key] = [a or b for a, b in zip(matched[key], flags, strict=True)]


def show(labels: Labels) -> str:
    """Return labels as Prometheus prints them: `{a="1", b="2"}`."""
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in labels) + "}"
