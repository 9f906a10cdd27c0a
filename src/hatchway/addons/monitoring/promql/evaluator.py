"""Evaluates an expression for all steps of a query (`promql/engine.go`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hatchway.addons.monitoring.promql import aggregate, binary, histograms, labelfunctions
from hatchway.addons.monitoring.promql.elementwise import DATE_FUNCTIONS, MATH_FUNCTIONS, round_to
from hatchway.addons.monitoring.promql.grid import Grid, QueryBudget, RangeSeries, Row, Timeline, Values, unique
from hatchway.addons.monitoring.promql.lexer import SET_OPERATORS
from hatchway.addons.monitoring.promql.mathematics import NAN, divide, go_max, go_min
from hatchway.addons.monitoring.promql.nodes import (
    Aggregate,
    Binary,
    Expression,
    FunctionCall,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
    type_of,
)
from hatchway.addons.monitoring.promql.rangefunctions import RANGE_FUNCTIONS, over_range
from hatchway.addons.monitoring.promql.selection import Selection
from hatchway.addons.monitoring.tsdb.labels import without_name

# The default step of a subquery, in milliseconds: Prometheus' default evaluation interval.
SUBQUERY_STEP = 60_000


class Evaluator:
    """Evaluates expressions over a grid of steps.

    Args:
        grid: the steps.
        budget: limits the query's work.
        selection: reads the samples of selectors; a subquery uses the selection of the whole query.
    """

    def __init__(self, grid: Grid, budget: QueryBudget, selection: Selection) -> None:
        self._grid = grid
        self._budget = budget
        self._selection = selection

    def scalar(self, node: Expression) -> list[float]:
        """Return the values of a scalar, one for each step."""
        match node:
            case NumberLiteral():
                return [node.value] * self._grid.count
            case Paren():
                return self.scalar(node.expression)
            case Unary():
                found = self.scalar(node.expression)
                return [-value for value in found] if node.operator == "-" else found
            case Binary():
                return binary.scalars(node.operator, self.scalar(node.left), self.scalar(node.right))
            case FunctionCall():
                return self._scalar_call(node)
        raise AssertionError(f"{node} is no scalar")

    def _scalar_call(self, node: FunctionCall) -> list[float]:
        match node.function.name:
            case "pi":
                return [3.141592653589793] * self._grid.count
            case "time":
                return [time / 1000 for time in self._grid.times]
        rows = self.vector(node.arguments[0])
        self._budget.take(self._grid.count)
        out = []
        for column in zip(*[row.values for row in rows], strict=True) if rows else ((),) * self._grid.count:
            present = [value for value in column if value is not None]
            out.append(present[0] if len(present) == 1 else NAN)
        return out

    def string(self, node: Expression) -> str:
        """Return the value of a string."""
        while isinstance(node, Paren):
            node = node.expression
        assert isinstance(node, StringLiteral)
        return node.value

    def vector(self, node: Expression) -> list[Row]:
        """Return the series of a vector, each with one value for each step."""
        self._budget.check()
        match node:
            case VectorSelector():
                return self._selection.instants(node, self._grid)
            case Paren():
                return self.vector(node.expression)
            case Unary():
                rows = self.vector(node.expression)
                if node.operator == "+":
                    return rows
                return unique([Row(without_name(row.labels), _mapped(lambda one: -one, row.values)) for row in rows])
            case Binary():
                return self._binary(node)
            case Aggregate():
                return self._aggregate(node)
            case FunctionCall():
                return self._call(node)
        raise AssertionError(f"{node} is no vector")

    def _binary(self, node: Binary) -> list[Row]:
        left, right = type_of(node.left), type_of(node.right)
        if left == "scalar":
            scalar = self.scalar(node.left)
            return binary.with_scalar(node.operator, self.vector(node.right), scalar, True, node.returns_bool)
        if right == "scalar":
            scalar = self.scalar(node.right)
            return binary.with_scalar(node.operator, self.vector(node.left), scalar, False, node.returns_bool)
        first, second = self.vector(node.left), self.vector(node.right)
        assert node.matching is not None
        self._budget.take(max(len(first), len(second)) * self._grid.count)
        if node.operator in SET_OPERATORS:
            return binary.join_sets(node.operator, first, second, node.matching)
        return binary.VectorOperation(node.operator, node.matching, node.returns_bool).apply(first, second)

    def _aggregate(self, node: Aggregate) -> list[Row]:
        rows = self.vector(node.expression)
        if node.operator == "count_values" and node.parameter is not None:
            label = self.string(node.parameter)
            return aggregate.count_values(rows, label, node.grouping, node.without, self._budget)
        parameter = None if node.parameter is None else self.scalar(node.parameter)
        groups = aggregate.grouped(rows, node.grouping, node.without)
        return aggregate.aggregate(node.operator, groups, parameter, self._budget)

    # Ranges

    def ranges(self, node: Expression) -> Iterator[RangeSeries]:
        """Yield the series of a range vector."""
        while isinstance(node, Paren):
            node = node.expression
        if isinstance(node, MatrixSelector):
            yield from self._selection.ranges(node, self._grid)
        elif isinstance(node, Subquery):
            yield from self._subquery(node)
        else:
            raise AssertionError(f"{node} is no range vector")

    def _subquery(self, node: Subquery) -> Iterator[RangeSeries]:
        ends = self._selection.ends(node, self._grid)
        step = node.step or SUBQUERY_STEP
        begin = ends[0] - node.range
        start = -(-begin // step) * step
        count = (ends[-1] - start) // step + 1
        if count <= 0:
            return
        grid = Grid(start, step, count)
        self._budget.take(count)
        inner = Evaluator(grid, self._budget, self._selection)
        shared: dict[tuple[int, ...], Timeline] = {}
        whole = Timeline(list(grid.times))
        for row in inner.vector(node.expression):
            if None not in row.values:
                yield RangeSeries(row.labels, whole, row.values, ends, node.range)  # type: ignore[arg-type]
                continue
            pairs = [(time, value) for time, value in zip(grid.times, row.values, strict=True) if value is not None]
            kept = tuple([time for time, _ in pairs])
            timeline = shared.setdefault(kept, Timeline(list(kept)))
            yield RangeSeries(row.labels, timeline, [value for _, value in pairs], ends, node.range)

    # Functions

    def _call(self, node: FunctionCall) -> list[Row]:
        name, arguments = node.function.name, node.arguments
        if name in RANGE_FUNCTIONS:
            return self._over_range(name, arguments)
        if name in MATH_FUNCTIONS:
            return self._each(MATH_FUNCTIONS[name], arguments[0])
        if name in DATE_FUNCTIONS:
            function = DATE_FUNCTIONS[name]
            if arguments:
                return self._each(function, arguments[0])
            return [Row((), [function(time / 1000) for time in self._grid.times])]
        match name:
            case "absent":
                return self._absent([row.values for row in self.vector(arguments[0])], arguments[0])
            case "absent_over_time":
                present = [
                    [None if window is None else 1.0 for window in series.windows]
                    for series in self.ranges(arguments[0])
                ]
                return self._absent(present, arguments[0])
            case "clamp" | "clamp_min" | "clamp_max":
                return self._clamp(name, arguments)
            case "histogram_quantile":
                return histograms.quantiles(self.scalar(arguments[0]), self.vector(arguments[1]), self._budget)
            case "histogram_count" | "histogram_sum" | "histogram_fraction":
                # These are functions of native histograms, which this store does not have.
                self.vector(arguments[-1])
                return []
            case "label_join":
                target, separator, *sources = [self.string(argument) for argument in arguments[1:]]
                return labelfunctions.joined(self.vector(arguments[0]), target, separator, sources, self._budget)
            case "label_replace":
                target, template, source, expression = [self.string(argument) for argument in arguments[1:]]
                rows = self.vector(arguments[0])
                return labelfunctions.replaced(rows, target, template, source, expression, self._budget)
            case "round":
                return self._round(arguments)
            case "sort" | "sort_desc":
                return self._sorted(self.vector(arguments[0]), name == "sort_desc")
            case "timestamp":
                return self._timestamp(arguments[0])
            case "vector":
                return [Row((), list(self.scalar(arguments[0])))]
        raise AssertionError(f"the function {name} is not implemented")

    def _over_range(self, name: str, arguments: list[Expression]) -> list[Row]:
        parameters = [self.scalar(argument) for argument in arguments if type_of(argument) == "scalar"]
        samples = next(argument for argument in arguments if type_of(argument) == "matrix")
        out = []
        for series in self.ranges(samples):
            values = over_range(name, series, parameters, self._grid.times, self._budget)
            labels = series.labels if name == "last_over_time" else without_name(series.labels)
            out.append(Row(labels, values))
        return unique(out)

    def _each(self, function: Callable[[float], float], argument: Expression) -> list[Row]:
        rows = self.vector(argument)
        self._budget.take(len(rows) * self._grid.count)
        return unique([Row(without_name(row.labels), _mapped(function, row.values)) for row in rows])

    def _absent(self, present: list[Values], argument: Expression) -> list[Row]:
        nothing: Values = [None] * self._grid.count
        columns = zip(*present, strict=True) if present else ((),) * self._grid.count
        values = [1.0 if all(one is None for one in column) else None for column in columns]
        return [] if values == nothing else [Row(labelfunctions.absent_labels(argument), list(values))]

    def _clamp(self, name: str, arguments: list[Expression]) -> list[Row]:
        rows = self.vector(arguments[0])
        bounds = [self.scalar(argument) for argument in arguments[1:]]
        out = []
        for row in rows:
            values: Values = []
            for step, value in enumerate(row.values):
                if value is None:
                    values.append(None)
                elif name == "clamp_min":
                    values.append(go_max(bounds[0][step], value))
                elif name == "clamp_max":
                    values.append(go_min(bounds[0][step], value))
                else:
                    low, high = bounds[0][step], bounds[1][step]
                    values.append(None if high < low else go_max(low, go_min(high, value)))
            out.append(Row(without_name(row.labels), values))
        return unique(out)

    def _round(self, arguments: list[Expression]) -> list[Row]:
        nearest = self.scalar(arguments[1]) if len(arguments) > 1 else [1.0] * self._grid.count
        inverses = [divide(1.0, one) for one in nearest]
        out = []
        for row in self.vector(arguments[0]):
            pairs = zip(row.values, inverses, strict=True)
            values = [None if value is None else round_to(value, inverse) for value, inverse in pairs]
            out.append(Row(without_name(row.labels), list(values)))
        return unique(out)

    def _sorted(self, rows: list[Row], descending: bool) -> list[Row]:
        """Sort the series of an instant query by value, NaN last. Series of a range query are not sorted."""
        if self._grid.count != 1:
            return rows

        def key(row: Row) -> tuple[bool, float]:
            value = row.values[0]
            return (True, 0.0) if value is None or value != value else (False, -value if descending else value)

        return sorted(rows, key=key)

    def _timestamp(self, argument: Expression) -> list[Row]:
        while isinstance(argument, Paren):
            argument = argument.expression
        if isinstance(argument, VectorSelector):
            rows = self._selection.instants(argument, self._grid, times=True)
        else:
            times = [time / 1000 for time in self._grid.times]
            rows = []
            for row in self.vector(argument):
                pairs = zip(row.values, times, strict=True)
                rows.append(Row(row.labels, [None if value is None else time for value, time in pairs]))
        return unique([Row(without_name(row.labels), row.values) for row in rows])


def _mapped(function: Callable[[float], float], values: Values) -> Values:
    if None in values:
        return [None if value is None else function(value) for value in values]
    return list(map(function, values))  # type: ignore[arg-type]
