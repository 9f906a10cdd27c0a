"""Computes aggregations of the series of a vector (`aggregation` in `promql/engine.go`)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from hatchway.addons.monitoring.promql.errors import PromqlError
from hatchway.addons.monitoring.promql.golang import format_float, format_general, quote
from hatchway.addons.monitoring.promql.grid import QueryBudget, Row, Values, unique
from hatchway.addons.monitoring.promql.mathematics import largest, mean, nan_first, quantile, smallest, variance
from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME, Labels, only, with_label, without

_label_name = re.compile("[a-zA-Z_][a-zA-Z0-9_]*").fullmatch


def _add(values: Sequence[float]) -> float:
    found = 0.0
    for value in values:
        found += value
    return found


def _variance(values: Sequence[float]) -> float:
    # The variance of a single value is 0, also of an infinity or NaN.
    return variance(values) if len(values) > 1 else 0.0


def _deviation(values: Sequence[float]) -> float:
    spread = _variance(values)
    return math.sqrt(spread) if spread >= 0 else math.nan


_SIMPLE: dict[str, Callable[[Sequence[float]], float]] = {
    "avg": mean,
    "count": lambda values: float(len(values)),
    "group": lambda values: 1.0,
    "max": largest,
    "min": smallest,
    "stddev": _deviation,
    "stdvar": _variance,
    "sum": _add,
}


def grouped(rows: list[Row], grouping: list[str], leaves_out: bool) -> dict[Labels, list[Row]]:
    """Return the rows of each group, by the group's labels.

    grouping: the names of the labels. leaves_out: True for `without`: these labels are left out; False for `by`.
    """
    found: dict[Labels, list[Row]] = {}
    names = frozenset(grouping)
    ignored = names | {METRIC_NAME}
    for row in rows:
        key = without(row.labels, ignored) if leaves_out else only(row.labels, names)
        found.setdefault(key, []).append(row)
    return found


def aggregate(
    name: str, groups: dict[Labels, list[Row]], parameter: list[float] | None, budget: QueryBudget
) -> list[Row]:
    """Compute an aggregation, and return its rows.

    Args:
        name: the operator.
        groups: the rows of each group, by the group's labels.
        parameter: the parameter of topk, bottomk and quantile at each step.
        budget: counts the values.
    """
    out: list[Row] = []
    if name in ("topk", "bottomk") and parameter is not None:
        for wanted in parameter:
            if not abs(wanted) < 2.0**63:
                raise PromqlError(f"Scalar value {format_general(wanted)} overflows int64")
    for labels, rows in groups.items():
        budget.take(len(rows[0].values))
        if name in ("topk", "bottomk") and parameter is not None:
            out += _selected(name == "topk", rows, parameter)
        else:
            columns = zip(*[row.values for row in rows], strict=True)
            if name == "quantile" and parameter is not None:
                pairs = zip(columns, parameter, strict=True)
                values: Values = [
                    quantile(q, present) if (present := [one for one in column if one is not None]) else None
                    for column, q in pairs
                ]
            else:
                values = _columns(_SIMPLE[name], columns, any(None in row.values for row in rows), budget)
            out.append(Row(labels, values))
    return unique(out)


def _columns(
    function: Callable[[Sequence[float]], float],
    columns: zip[tuple[float | None, ...]],
    gaps: bool,
    budget: QueryBudget,
) -> Values:
    out: Values = []
    for step, column in enumerate(columns):
        if not step % 64:
            budget.check()
        present = [value for value in column if value is not None] if gaps else column
        out.append(function(present) if present else None)  # type: ignore[arg-type]
    return out


def _selected(highest: bool, rows: list[Row], parameter: list[float]) -> list[Row]:
    """Return rows with only the `k` highest or lowest values of each step. In an instant query they are sorted."""
    out = [Row(row.labels, [None] * len(row.values)) for row in rows]
    order: list[int] = []
    for step, wanted in enumerate(parameter):
        present = [(value, place) for place, row in enumerate(rows) if (value := row.values[step]) is not None]
        if highest:
            present.sort(key=lambda pair: (pair[0] != pair[0], 0.0 if pair[0] != pair[0] else -pair[0]))
        else:
            present.sort(key=lambda pair: (pair[0] != pair[0], nan_first(pair[0])))
        order = [place for _, place in present[: max(int(wanted), 0)]]
        for place in order:
            out[place].values[step] = rows[place].values[step]
    return [out[place] for place in order] if len(parameter) == 1 else out


def count_values(rows: list[Row], label: str, grouping: list[str], leaves_out: bool, budget: QueryBudget) -> list[Row]:
    """Count the series with each value (`count_values`). label: is set to the value, before grouping."""
    if not _label_name(label):
        raise PromqlError(f"invalid label name {quote(label)}")
    names = frozenset(grouping) | {METRIC_NAME} if leaves_out else frozenset({*grouping, label})
    found: dict[Labels, Values] = {}
    for row in rows:
        budget.check()
        for step, value in enumerate(row.values):
            if value is None:
                continue
            labels = with_label(row.labels, label, format_float(value))
            key = without(labels, names) if leaves_out else only(labels, names)
            if key not in found:
                budget.take(len(row.values))
                found[key] = [None] * len(row.values)
            found[key][step] = (found[key][step] or 0.0) + 1
    return [Row(labels, values) for labels, values in found.items()]
