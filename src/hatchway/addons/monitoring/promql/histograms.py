"""Computes `histogram_quantile` of classic histograms, which are series of buckets with `le` (`promql/quantile.go`)."""

from __future__ import annotations

import math

from hatchway.addons.monitoring.promql.golang import parse_float
from hatchway.addons.monitoring.promql.grid import QueryBudget, Row, Values, unique
from hatchway.addons.monitoring.promql.mathematics import INF, NAN, divide
from hatchway.addons.monitoring.tsdb.labels import BUCKET_LABEL, METRIC_NAME, Labels, value_of, without

_LEFT_OUT = frozenset({METRIC_NAME, BUCKET_LABEL})


def quantiles(quantile: list[float], rows: list[Row], budget: QueryBudget) -> list[Row]:
    """Return the quantile of each histogram at each step. Series whose `le` is not a number are left out.

    quantile: the quantile to compute at each step.
    """
    groups: dict[Labels, list[tuple[float, Row]]] = {}
    for row in rows:
        try:
            bound = parse_float(value_of(row.labels, BUCKET_LABEL) or "x")
        except ValueError:
            continue
        groups.setdefault(without(row.labels, _LEFT_OUT), []).append((bound, row))
    out = []
    for labels, buckets in groups.items():
        buckets.sort(key=lambda bucket: (bucket[0] == bucket[0], bucket[0]))
        budget.take(len(quantile))
        values: Values = []
        for step, q in enumerate(quantile):
            present = [(bound, count) for bound, row in buckets if (count := row.values[step]) is not None]
            values.append(bucket_quantile(q, present) if present else None)
        out.append(Row(labels, values))
    return unique(out)


def bucket_quantile(q: float, buckets: list[tuple[float, float]]) -> float:
    """Return a quantile by linear interpolation in a bucket.

    Args:
        q: from 0 to 1; outside this range, the result is infinite.
        buckets: (upper bound, cumulative count), sorted by bound. Without +Inf as the last bound, the result is NaN.
    """
    if q != q:
        return NAN
    if q < 0:
        return -INF
    if q > 1:
        return INF
    if buckets[-1][0] != INF:
        return NAN
    bounds, counts = _monotonic(buckets)
    if len(bounds) < 2:
        return NAN
    observations = counts[-1]
    if observations == 0:
        return NAN
    rank = q * observations
    # Search as Go's sort.Search does: counts may be NaN, for which every comparison is false.
    low, high = 0, len(bounds) - 1
    while low < high:
        middle = (low + high) // 2
        if counts[middle] >= rank:
            high = middle
        else:
            low = middle + 1
    if low == len(bounds) - 1:
        return bounds[-2]
    if low == 0 and bounds[0] <= 0:
        return bounds[0]
    start, end, count = 0.0, bounds[low], counts[low]
    if low > 0:
        start = bounds[low - 1]
        count -= counts[low - 1]
        rank -= counts[low - 1]
    return start + (end - start) * divide(rank, count)


def _monotonic(buckets: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Join buckets with the same bound, and raise counts that are lower than the count before."""
    bounds: list[float] = []
    counts: list[float] = []
    for bound, count in buckets:
        if bounds and bounds[-1] == bound:
            counts[-1] += count
        else:
            bounds.append(bound)
            counts.append(count)
    highest = counts[0]
    for place, count in enumerate(counts[1:], 1):
        if count > highest:
            highest = count
        elif count < highest or math.isnan(highest):
            counts[place] = highest if count < highest else count
    return bounds, counts
