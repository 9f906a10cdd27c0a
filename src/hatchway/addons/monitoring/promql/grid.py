"""The data of an evaluation: steps, series, windows. Each expression is evaluated for all steps of a query at once."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from operator import itemgetter

from hatchway.addons.monitoring.promql.errors import PromqlError, QueryCanceled, QueryTimeout, TooManySamples
from hatchway.addons.monitoring.tsdb.labels import Labels

# The values of a series, one for each step; None for a step without a value.
Values = list[float | None]
# For each step: the first and the last index (inclusive) of the samples in its window; None for an empty window.
Windows = list[tuple[int, int] | None]
# A function that takes the values of all samples of a series, and returns the value of each step.
Picker = Callable[["list[float | None]"], Values]


class Grid:
    """The steps of an evaluation. start: milliseconds. step: milliseconds, above 0."""

    __slots__ = ("count", "start", "step", "times")

    def __init__(self, start: int, step: int, count: int) -> None:
        self.start, self.step, self.count = start, step, count
        self.times = range(start, start + step * count, step)


class Row:
    """A series of a result. values: one for each step."""

    __slots__ = ("labels", "values")

    def __init__(self, labels: Labels, values: Values) -> None:
        self.labels = labels
        self.values = values


class Timeline:
    """The times of samples. Series that were scraped together share one object, and the results computed from it.

    times: milliseconds, ascending.
    """

    __slots__ = ("_windows", "cache", "times")

    def __init__(self, times: list[int]) -> None:
        self.times = times
        self._windows: dict[int, Windows] = {}
        # A cache of results that functions compute from the times only. Each function chooses its keys.
        self.cache: dict[object, object] = {}

    def windows(self, ends: tuple[int, ...], length: int) -> Windows:
        """Return the window of each step: the samples from `end - length` to `end`, both included."""
        found = self._windows.get(length)
        if found is None:
            times = self.times
            found = []
            first = last = 0
            for end in ends:
                # The ends ascend, so each search begins where the last one ended.
                first = bisect_left(times, end - length, first)
                last = bisect_right(times, end, max(last, first))
                found.append((first, last - 1) if last > first else None)
            self._windows[length] = found
        return found

    def picker(self, ends: tuple[int, ...], lookback: int) -> Picker:
        """Return a function that returns, for each step, the newest value of a series within `lookback`.

        The function's argument is the values of the series, with one more element at the end: None, for steps without a
        sample.
        """
        windows = self.windows(ends, lookback)
        nothing = len(self.times)
        places = [nothing if window is None else window[1] for window in windows]
        if len(places) == 1:
            place = places[0]
            return lambda values: [values[place]]
        get = itemgetter(*places)
        return lambda values: list(get(values))


class RangeSeries:
    """The samples of a series that a range selector or a subquery has found.

    timeline, values: the samples.
    ends: the end of each step's window, milliseconds.
    length: the range, milliseconds.
    """

    __slots__ = ("ends", "labels", "length", "timeline", "values")

    def __init__(
        self, labels: Labels, timeline: Timeline, values: list[float], ends: tuple[int, ...], length: int
    ) -> None:
        self.labels = labels
        self.timeline = timeline
        self.values = values
        self.ends = ends
        self.length = length

    @property
    def windows(self) -> Windows:
        """Return the window of each step."""
        return self.timeline.windows(self.ends, self.length)


class QueryBudget:
    """Limits the time and the memory of an evaluation.

    Args:
        samples: the maximum number of values that an evaluation may compute, and the maximum number of samples that it
            may read of one series.
        seconds: the longest time.
        cancelled: set when no client waits for the answer any more.
    """

    def __init__(self, samples: int, seconds: float, cancelled: threading.Event | None = None) -> None:
        self._left = samples
        self._largest = samples
        self._deadline = time.monotonic() + seconds
        self._cancelled = cancelled

    def check(self) -> None:
        """Raise QueryTimeout or QueryCanceled when the evaluation must end."""
        if self._cancelled is not None and self._cancelled.is_set():
            raise QueryCanceled("query was canceled in query execution")
        if time.monotonic() > self._deadline:
            raise QueryTimeout("query timed out in query execution")

    def take(self, samples: int) -> None:
        """Count values before they are computed. Raises TooManySamples, and the errors of `check`."""
        self._left -= samples
        if self._left < 0:
            raise TooManySamples
        self.check()

    def check_samples(self, samples: int) -> None:
        """Check that this many samples of one series may be read. Raises TooManySamples."""
        if samples > self._largest:
            raise TooManySamples


def has_values(row: Row) -> bool:
    """Return True when a series has a value at some step."""
    return any(value is not None for value in row.values)


def unique(rows: Iterable[Row]) -> list[Row]:
    """Return the rows, joined where they have the same labels. Rows without values are left out.

    Raises:
        PromqlError: two rows with the same labels have a value at the same step.
    """
    found: dict[Labels, Row] = {}
    for row in rows:
        known = found.get(row.labels)
        if known is None:
            if has_values(row):
                found[row.labels] = row
            continue
        joined: Values = []
        for one, other in zip(known.values, row.values, strict=True):
            if one is not None and other is not None:
                raise PromqlError("vector cannot contain metrics with the same labelset")
            joined.append(other if one is None else one)
        found[row.labels] = Row(row.labels, joined)
    return list(found.values())
