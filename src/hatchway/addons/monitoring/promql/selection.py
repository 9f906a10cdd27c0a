"""Reads the samples of selectors from the store: one value for each step, or the samples of ranges."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from hatchway.addons.monitoring.promql.grid import Grid, Picker, QueryBudget, RangeSeries, Row, Timeline, has_values
from hatchway.addons.monitoring.promql.nodes import MatrixSelector, Modified, VectorSelector
from hatchway.addons.monitoring.tsdb.labels import STALE_BYTES, Labels, is_stale
from hatchway.addons.monitoring.tsdb.matchers import Matcher

# The largest age at which a sample counts as a series' present value, in milliseconds.
LOOKBACK = 5 * 60 * 1000


class StoredSeries(Protocol):
    """A series of the store."""

    @property
    def labels(self) -> Labels:
        """Return the series' labels."""
        ...

    def pieces(self) -> Iterable[tuple[array[int], array[float]]]:
        """Yield (times in milliseconds, values) for parts of the series, the oldest part first."""
        ...


class Queryable(Protocol):
    """A store of series."""

    def select(
        self, matchers: Sequence[Matcher], begin: int, end: int, tick: Callable[[], None]
    ) -> Sequence[StoredSeries]:
        """Return the series that match and may have samples from `begin` to `end` (milliseconds), sorted by labels.

        tick: called at intervals; it may raise an exception to stop.
        """
        ...


class Selection:
    """Reads the samples of a query's selectors.

    Args:
        store: stores the samples.
        budget: limits the query's work.
        bounds: the first and last step of the whole query, for `@ start()` and `@ end()`.
    """

    def __init__(self, store: Queryable, budget: QueryBudget, bounds: tuple[int, int]) -> None:
        self._store = store
        self._budget = budget
        self._bounds = bounds

    def ends(self, node: Modified, grid: Grid) -> tuple[int, ...]:
        """Return the time for which a selector or subquery is evaluated at each step, with its modifiers applied."""
        at = node.timestamp
        if node.preprocessor:
            at = self._bounds[0 if node.preprocessor == "start" else 1]
        if at is not None:
            return (at - node.offset,) * grid.count
        return tuple(range(grid.start - node.offset, grid.start - node.offset + grid.step * grid.count, grid.step))

    def instants(self, node: VectorSelector, grid: Grid, *, times: bool = False) -> list[Row]:
        """Return the values of an instant vector selector. times: True for the samples' times (seconds) instead."""
        ends = self.ends(node, grid)
        rows: list[Row] = []
        pickers: dict[Timeline, Picker] = {}
        for labels, timeline, values in self._series(node.matchers, ends[0] - LOOKBACK, ends[-1]):
            self._budget.take(grid.count)
            pick = pickers.get(timeline)
            if pick is None:
                pick = pickers[timeline] = timeline.picker(ends, LOOKBACK)
            if times:
                pairs = zip(timeline.times, values, strict=True)
                values = [None if value is None else time / 1000 for time, value in pairs]
            row = Row(labels, pick([*values, None]))
            if has_values(row):
                rows.append(row)
        return rows

    def ranges(self, node: MatrixSelector, grid: Grid) -> Iterator[RangeSeries]:
        """Yield the series of a range vector selector."""
        ends = self.ends(node.selector, grid)
        present: dict[tuple[int, ...], Timeline] = {}
        for labels, timeline, values in self._series(node.selector.matchers, ends[0] - node.range, ends[-1]):
            self._budget.take(grid.count)
            if None in values:
                pairs = [(time, one) for time, one in zip(timeline.times, values, strict=True) if one is not None]
                kept = tuple([time for time, _ in pairs])
                timeline = present.setdefault(kept, Timeline(list(kept)))
                yield RangeSeries(labels, timeline, [one for _, one in pairs], ends, node.range)
            else:
                yield RangeSeries(labels, timeline, values, ends, node.range)  # type: ignore[arg-type]

    def _series(
        self, matchers: Sequence[Matcher], begin: int, end: int
    ) -> Iterator[tuple[Labels, Timeline, list[float | None]]]:
        """Yield (labels, times, values) of the series with samples from `begin` to `end`. Stale samples are None."""
        shared: dict[bytes, Timeline] = {}
        for series in self._store.select(matchers, begin, end, self._budget.check):
            times, values = array("q"), array("d")
            for some_times, some_values in series.pieces():
                first, last = bisect_left(some_times, begin), bisect_right(some_times, end)
                if first < last:
                    times += some_times[first:last]
                    values += some_values[first:last]
            if not times:
                continue
            self._budget.check_samples(len(times))
            key = times.tobytes()
            timeline = shared.get(key)
            if timeline is None:
                timeline = shared[key] = Timeline(times.tolist())
            found: list[float | None] = list(values)
            if STALE_BYTES in values.tobytes():
                found = [None if value is not None and is_stale(value) else value for value in found]
            yield series.labels, timeline, found
