"""Executes queries: evaluates an expression at one time, or at the steps of a range of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hatchway.addons.monitoring.promql.errors import InvalidQueryType
from hatchway.addons.monitoring.promql.evaluator import Evaluator
from hatchway.addons.monitoring.promql.grid import Grid, QueryBudget
from hatchway.addons.monitoring.promql.nodes import Expression, type_of
from hatchway.addons.monitoring.promql.selection import Queryable, Selection
from hatchway.addons.monitoring.tsdb.labels import Labels


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query.

    time: the time of a scalar, a string or a vector, in milliseconds.
    series: the series of a vector (one sample each) or a matrix: (labels, times in milliseconds, values). A value None
        is not a sample.
    value: the value of a scalar.
    text: the value of a string.
    """

    type: Literal["vector", "matrix", "scalar", "string"]
    time: int = 0
    series: Sequence[tuple[Labels, Sequence[int], Sequence[float | None]]] = ()
    value: float = 0.0
    text: str = ""


def instant(store: Queryable, node: Expression, time: int, budget: QueryBudget) -> QueryResult:
    """Evaluate an expression at one time. time: milliseconds. Raises PromqlError."""
    evaluator = Evaluator(Grid(time, 1, 1), budget, Selection(store, budget, (time, time)))
    match type_of(node):
        case "scalar":
            return QueryResult("scalar", time, value=evaluator.scalar(node)[0])
        case "string":
            return QueryResult("string", time, text=evaluator.string(node))
        case "matrix":
            found: list[tuple[Labels, Sequence[int], Sequence[float | None]]] = []
            for series in evaluator.ranges(node):
                window = series.windows[0]
                if window is not None:
                    first, after = window[0], window[1] + 1
                    budget.take(after - first)
                    found.append((series.labels, series.timeline.times[first:after], series.values[first:after]))
            return QueryResult("matrix", time, sorted(found, key=_labels))
    rows = evaluator.vector(node)
    return QueryResult("vector", time, [(row.labels, (time,), row.values) for row in rows if row.values[0] is not None])


def over_range(store: Queryable, node: Expression, start: int, end: int, step: int, budget: QueryBudget) -> QueryResult:
    """Evaluate an expression at the steps from `start` to `end`. start, end, step: milliseconds. Raises PromqlError."""
    kind = type_of(node)
    if kind not in ("scalar", "vector"):
        raise InvalidQueryType({"matrix": "range vector"}.get(kind, kind))
    grid = Grid(start, step, (end - start) // step + 1)
    evaluator = Evaluator(grid, budget, Selection(store, budget, (start, end)))
    if kind == "scalar":
        budget.take(grid.count)
        return QueryResult("matrix", end, [((), grid.times, evaluator.scalar(node))])
    found = [(row.labels, grid.times, row.values) for row in evaluator.vector(node)]
    return QueryResult("matrix", end, sorted(found, key=_labels))


def _labels(series: tuple[Labels, Sequence[int], Sequence[float | None]]) -> Labels:
    return series[0]
