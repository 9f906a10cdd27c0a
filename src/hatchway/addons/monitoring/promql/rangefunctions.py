"""PromQL's functions of ranges of samples: rates, `*_over_time`, regressions (`promql/functions.go`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from operator import lt

from hatchway.addons.monitoring.promql.errors import PromqlError
from hatchway.addons.monitoring.promql.grid import QueryBudget, RangeSeries, Values
from hatchway.addons.monitoring.promql.mathematics import (
    divide,
    largest,
    mean,
    quantile,
    smallest,
    total,
    variance,
)

# The number of windows between two checks of the budget.
_WINDOWS = 64

# The parts of a rate that depend only on the times of a step's window: index of the first sample, index of the last,
# seconds between them, seconds from the window's start to the first sample, the factor of extrapolation, the seconds of
# extrapolation at the end, the threshold of extrapolation in seconds, and the divisor.
_Plan = tuple[int, int, float, float, float, float, float, float]


def _plans(series: RangeSeries, per_second: bool) -> list[_Plan | None]:
    key = ("rate", series.length, per_second)
    found = series.timeline.cache.get(key)
    if found is not None:
        return found  # type: ignore[return-value]
    times, length = series.timeline.times, series.length
    plans: list[_Plan | None] = []
    for end, window in zip(series.ends, series.windows, strict=True):
        if window is None or window[0] == window[1]:
            plans.append(None)
            continue
        first, last = window
        to_start = (times[first] - (end - length)) / 1000
        to_end = (end - times[last]) / 1000
        sampled = (times[last] - times[first]) / 1000
        average = sampled / (last - first)
        threshold = average * 1.1
        without_start = to_end if to_end < threshold else average / 2
        divisor = sampled * (length / 1000 if per_second else 1)
        to_interval = sampled + (to_start if to_start < threshold else average / 2) + without_start
        plans.append((first, last, sampled, to_start, to_interval / divisor, without_start, threshold, divisor))
    series.timeline.cache[key] = plans
    return plans


def _extrapolated(series: RangeSeries, counter: bool, per_second: bool) -> Values:
    """Return the increase in each window, extrapolated to the window's start and end (`extrapolatedRate`)."""
    values = series.values
    # The number of resets up to each sample.
    resets = list(accumulate(map(lt, values[1:], values), initial=0)) if counter else []
    resets = resets if resets and resets[-1] else []
    out: Values = []
    for plan in _plans(series, per_second):
        if plan is None:
            out.append(None)
            continue
        first, last, sampled, to_start, factor, without_start, threshold, divisor = plan
        begin = values[first]
        increase = values[last] - begin
        if resets and resets[last] != resets[first]:
            for place in range(first + 1, last + 1):
                if values[place] < values[place - 1]:
                    increase += values[place - 1]
        if counter and increase > 0 and begin >= 0:
            # A counter is not extrapolated to times before it was zero.
            to_zero = sampled * (begin / increase)
            if to_zero < to_start:
                start = to_zero if to_zero < threshold else sampled / (last - first) / 2
                factor = (sampled + start + without_start) / divisor
        out.append(increase * factor)
    return out


def _instant(series: RangeSeries, counter: bool) -> Values:
    """Return the rate (`irate`) or the difference (`idelta`) of the last two samples of each window.

    counter: True for `irate`.
    """
    times, values = series.timeline.times, series.values
    out: Values = []
    for window in series.windows:
        if window is None or window[0] == window[1]:
            out.append(None)
            continue
        last = window[1]
        change = values[last] - values[last - 1]
        if counter:
            change = values[last] if values[last] < values[last - 1] else change
            change /= (times[last] - times[last - 1]) / 1000
        out.append(change)
    return out


def _regression(times: Sequence[int], values: Sequence[float], zero: int) -> tuple[float, float]:
    """Return (slope per second, value at the time `zero`) of the least-squares line. zero: milliseconds."""
    if all(value == values[0] for value in values):
        return (math.nan, math.nan) if math.isinf(values[0]) else (0.0, values[0])
    count = len(values)
    xs = [(time - zero) / 1000 for time in times]
    sum_x, sum_y = total(xs), total(values)
    sum_xy = total([x * y for x, y in zip(xs, values, strict=True)])
    sum_xx = total([x * x for x in xs])
    covariance = sum_xy - sum_x * sum_y / count
    slope = divide(covariance, sum_xx - sum_x * sum_x / count)
    return slope, sum_y / count - slope * sum_x / count


def _changes(values: Sequence[float]) -> float:
    pairs = pairwise(values)
    return float(sum([new != old and not (new != new and old != old) for old, new in pairs]))


def _resets(values: Sequence[float]) -> float:
    return float(sum(map(lt, values[1:], values)))


_OVER_TIME: dict[str, Callable[[Sequence[float]], float]] = {
    "avg_over_time": mean,
    "changes": _changes,
    "count_over_time": lambda values: float(len(values)),
    "last_over_time": lambda values: values[-1],
    "max_over_time": largest,
    "min_over_time": smallest,
    "present_over_time": lambda values: 1.0,
    "resets": _resets,
    "stddev_over_time": lambda values: math.sqrt(spread) if (spread := variance(values)) >= 0 else math.nan,
    "stdvar_over_time": variance,
    "sum_over_time": total,
}

RANGE_FUNCTIONS = frozenset(
    {
        "rate", "increase", "delta", "irate", "idelta", "deriv", "predict_linear", "quantile_over_time",
        "holt_winters", *_OVER_TIME,
    }
)  # fmt: skip


def over_range(
    name: str, series: RangeSeries, parameters: list[list[float]], times: Sequence[int], budget: QueryBudget
) -> Values:
    """Return a function's values for one series.

    Args:
        name: one of `RANGE_FUNCTIONS`.
        series: the samples.
        parameters: the function's scalar arguments, each with a value for each step.
        times: the times of the steps, in milliseconds.
        budget: is checked at intervals.
    """
    match name:
        case "rate" | "increase":
            return _extrapolated(series, True, name == "rate")
        case "delta":
            return _extrapolated(series, False, False)
        case "irate" | "idelta":
            return _instant(series, name == "irate")
    samples, values = series.timeline.times, series.values
    function = _OVER_TIME.get(name)
    out: Values = []
    for step, window in enumerate(series.windows):
        if not step % _WINDOWS:
            budget.check()
        if window is None:
            out.append(None)
            continue
        first, after = window[0], window[1] + 1
        part = values[first:after]
        if function is not None:
            out.append(function(part))
        elif name == "quantile_over_time":
            out.append(quantile(parameters[0][step], part))
        elif name == "holt_winters":
            out.append(_smoothed(part, parameters[0][step], parameters[1][step]))
        elif len(part) < 2:
            out.append(None)
        elif name == "deriv":
            out.append(_regression(samples[first:after], part, samples[first])[0])
        else:
            slope, intercept = _regression(samples[first:after], part, times[step])
            out.append(slope * parameters[0][step] + intercept)
    return out


def _smoothed(values: Sequence[float], smoothing: float, trend: float) -> float | None:
    """Return the last value after double exponential smoothing (`holt_winters`); None for a single value."""
    for factor, what, short in ((smoothing, "smoothing", "sf"), (trend, "trend", "tf")):
        if factor <= 0 or factor >= 1:
            shown = f"{factor:f}" if math.isfinite(factor) else f"{factor:+f}".replace("inf", "Inf")
            raise PromqlError(f"invalid {what} factor. Expected: 0 < {short} < 1, got: {shown}")
    if len(values) < 2:
        return None
    slope = values[1] - values[0]
    current = values[0]
    before = 0.0
    for place, value in enumerate(values[1:], 1):
        if place > 1:
            slope = trend * (current - before) + (1 - trend) * slope
        before, current = current, smoothing * value + (1 - smoothing) * (current + slope)
    return current
