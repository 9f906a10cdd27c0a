"""Computes aggregations: queries tantivy for each index, adds up the answers, and writes them in Elasticsearch's form.

tantivy's answer for one index is a tree of dictionaries. `_Partial` is such a tree in a form that can be added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import tantivy

from hatchway.addons.logging.aggregations import (
    MAX_BUCKETS,
    MAX_TERMS,
    Aggregation,
    Aggregations,
    FilterAggregation,
    HistogramAggregation,
    MetricAggregation,
    TermsAggregation,
)
from hatchway.addons.logging.index import EsIndex
from hatchway.addons.logging.mapping import WITHOUT_COLUMN, column
from hatchway.addons.logging.problems import EsProblem, failed_query
from hatchway.addons.logging.query import Bool, Query, Range

_TIMESTAMP = "@timestamp"
_MILLISECOND = 1e6  # in nanoseconds, the unit of the column "time"
# Nanoseconds that are subtracted from an interval's beginning. tantivy divides in floating point, so a time exactly at
# the beginning might otherwise be counted in the previous interval.
_SLACK = 1000
# The range of times that are counted. The value of documents without a time is outside this range.
_TIMES = {"min": -9.2e18, "max": 9.3e18}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Partial:
    """The result of one aggregation so far.

    Attributes:
        buckets: the buckets by their keys.
        other: the number of documents whose terms have no bucket.
        error: the maximum number of documents that may be missing in the count of a bucket.
        count, total, low, high: number, sum, minimum and maximum of the values, for metrics.
    """

    buckets: dict[Any, _PartialBucket] = field(default_factory=dict)
    other: int = 0
    error: int = 0
    count: int = 0
    total: float = 0.0
    low: float | None = None
    high: float | None = None


@dataclass(slots=True)
class _PartialBucket:
    count: int = 0
    text: str | None = None
    inner: dict[str, _Partial] = field(default_factory=dict)


class AggregationRun:
    """One computation of aggregations over the documents of some indices that match a query.

    Call `add` for each index, then `answer`.
    """

    def __init__(self, wanted: Aggregations, query: Query, now: datetime) -> None:
        self._wanted = wanted
        self._query = query
        self._now = now
        self._found: dict[str, _Partial] = {name: _Partial() for name in wanted}

    def add(self, index: EsIndex, matching: tantivy.Query) -> None:
        """Add an index's documents. Raises EsProblem 400; QueryError for a filter's query.

        matching: the query for this index, as the index's method `build` returns it.
        """
        plain: Aggregations = {
            name: one for name, one in self._wanted.items() if not isinstance(one, FilterAggregation)
        }
        for name, one in list(plain.items()):
            # A metric over times must exclude documents without a time.
            if isinstance(one, MetricAggregation) and one.field == _TIMESTAMP:
                timed = index.build(Bool(must=(self._query,), filter=(Range(_TIMESTAMP),)), self._now)
                self._compute(index, timed, {name: plain.pop(name)}, self._found)
        self._compute(index, matching, plain, self._found)
        for name, one in self._wanted.items():
            if isinstance(one, FilterAggregation):
                for key, query in one.queries.items():
                    both = index.build(Bool(must=(self._query,), filter=(query,)), self._now)
                    bucket = self._found[name].buckets.setdefault(key, _PartialBucket())
                    bucket.count += index.count_matches(both)
                    self._compute(index, both, one.inner, bucket.inner)

    def _compute(
        self, index: EsIndex, matching: tantivy.Query, wanted: Aggregations, into: dict[str, _Partial]
    ) -> None:
        request = {name: spelled for name, one in wanted.items() if (spelled := _spelled(index, one, top=True))}
        if not request:
            return
        try:
            found = index.aggregate(matching, request)
        except ValueError as error:
            if "ucket" not in str(error):
                raise failed_query("illegal_argument_exception", str(error)[:200], index.name) from error
            raise _too_many() from error
        _add(into, wanted, found)

    def answer(self) -> dict[str, Any]:
        """Return the value of `"aggregations"` in the answer. Raises EsProblem 400 for too many buckets."""
        return _shaped(self._wanted, self._found, _BucketLimit())


@dataclass(slots=True)
class _BucketLimit:
    left: int = MAX_BUCKETS

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _too_many()


def _too_many() -> EsProblem:
    reason = f"Trying to create too many buckets. Must be less than or equal to: [{MAX_BUCKETS}]."
    return EsProblem(400, "too_many_buckets_exception", reason, more={"max_buckets": MAX_BUCKETS})


def _spelled(index: EsIndex, wanted: Aggregation, *, top: bool = False) -> dict[str, Any] | None:
    """Return an aggregation in tantivy's form; None when no document has the field.

    top: True for an aggregation that is not inside another one.
    """
    assert not isinstance(wanted, FilterAggregation)
    name = _column(index, wanted)
    if name is None:
        return None
    made: dict[str, Any]
    if isinstance(wanted, MetricAggregation):
        if name == "time" and not top:
            reason = f"[{wanted.kind}] over [{_TIMESTAMP}] inside another aggregation is not supported by this server"
            raise failed_query("illegal_argument_exception", reason, index.name)
        return {"value_count" if wanted.kind == "value_count" else "stats": {"field": name}}
    if isinstance(wanted, TermsAggregation):
        # tantivy sorts whole numbers before other numbers, so `_terms` sorts by key itself.
        shard = wanted.size + wanted.size // 2 + 10 if wanted.order == "_count" else MAX_TERMS
        order = {wanted.order: "asc" if wanted.ascending else "desc"}
        made = {"terms": {"field": name, "size": shard, "segment_size": shard * 4, "order": order}}
        if wanted.missing is not None:
            missing = wanted.missing
            made["terms"]["missing"] = f"={missing}" if isinstance(missing, str) else missing
    else:
        unit = _MILLISECOND if name == "time" else 1.0
        made = {
            "histogram": {
                "field": name,
                "interval": wanted.interval * unit,
                "offset": wanted.offset * unit - (_SLACK if name == "time" else 0),
                "min_doc_count": 1,  # `_intervals` adds empty buckets itself.
                **({"hard_bounds": _TIMES} if name == "time" else {}),
            }
        }
    inner = {key: spelled for key, one in wanted.inner.items() if (spelled := _spelled(index, one))}
    if inner:
        made["aggs"] = inner
    return made


def _column(index: EsIndex, wanted: TermsAggregation | HistogramAggregation | MetricAggregation) -> str | None:
    """Return the name of the field's column; None when no document has the field.

    Raises EsProblem 400 when the aggregation cannot be computed for this field.
    """
    found = index.mapping.resolve(wanted.field)
    if found is None or found[1] == "object":
        return None
    path, kind = found
    reason = ""
    if path in WITHOUT_COLUMN:
        reason = f"Aggregations over [{path}] are not supported by this server: nearly every line is different."
    elif kind == "text":
        reason = (
            "Text fields are not optimised for operations that require per-document field data like aggregations and "
            "sorting, so these operations are disabled by default. "
            f"Please use a keyword field instead: [{path}.keyword]."
        )
    elif not isinstance(wanted, TermsAggregation) and kind in ("keyword", "boolean", "ip"):
        if not (isinstance(wanted, MetricAggregation) and wanted.kind == "value_count"):
            reason = f"Field [{wanted.field[:64]}] of type [{kind}] is not supported for this aggregation"
    elif isinstance(wanted, TermsAggregation) and path == _TIMESTAMP:
        reason = f"[terms] over [{_TIMESTAMP}] is not supported by this server: use [date_histogram]"
    elif isinstance(wanted, HistogramAggregation) and wanted.dates != (kind == "date"):
        reason = f"Field [{wanted.field[:64]}] of type [{kind}] is not supported for this histogram"
    if reason:
        raise failed_query("illegal_argument_exception", reason, index.name)
    return "time" if path == _TIMESTAMP and kind == "date" else f"columns.{column(path)}"


def _add(into: dict[str, _Partial], wanted: Aggregations, found: dict[str, Any]) -> None:
    """Add tantivy's answer for one index to `into`."""
    for name, one in wanted.items():
        partial = into.setdefault(name, _Partial())
        if name not in found:
            continue
        result = found[name]
        if isinstance(one, MetricAggregation):
            _add_metric(partial, one, result)
            continue
        assert not isinstance(one, FilterAggregation)
        partial.other += result.get("sum_other_doc_count") or 0
        partial.error += result.get("doc_count_error_upper_bound") or 0
        for bucket in result["buckets"]:
            kept = partial.buckets.setdefault(_key(one, bucket["key"]), _PartialBucket())
            kept.count += bucket["doc_count"]
            kept.text = bucket.get("key_as_string")
            _add(kept.inner, one.inner, bucket)


def _key(wanted: TermsAggregation | HistogramAggregation, key: Any) -> Any:
    if isinstance(wanted, TermsAggregation):
        return key[1:] if isinstance(key, str) else key
    # tantivy's keys are floating point numbers: rounding gives the number of the interval.
    value = key / _MILLISECOND if wanted.dates and wanted.field == _TIMESTAMP else key
    return round((value - wanted.offset) / wanted.interval)


def _add_metric(partial: _Partial, wanted: MetricAggregation, result: dict[str, Any]) -> None:
    unit = _MILLISECOND if wanted.field == _TIMESTAMP else 1.0
    if wanted.kind == "value_count":
        partial.count += int(result["value"])
        return
    partial.count += result["count"]
    if result["count"]:
        partial.total += result["sum"] / unit
        low, high = result["min"] / unit, result["max"] / unit
        partial.low = low if partial.low is None else min(low, partial.low)
        partial.high = high if partial.high is None else max(high, partial.high)


def _shaped(wanted: Aggregations, found: dict[str, _Partial], limit: _BucketLimit) -> dict[str, Any]:
    """Return the answer for these aggregations."""
    shaped: dict[str, Any] = {}
    for name, one in wanted.items():
        partial = found.get(name) or _Partial()
        if isinstance(one, MetricAggregation):
            shaped[name] = _metric(one, partial)
        elif isinstance(one, FilterAggregation):
            limit.take(len(one.queries))
            made = {
                key: {"doc_count": bucket.count, **_shaped(one.inner, bucket.inner, limit)}
                for key, bucket in ((key, partial.buckets.get(key) or _PartialBucket()) for key in one.queries)
            }
            shaped[name] = made[""] if one.single else {"buckets": made}
        elif isinstance(one, TermsAggregation):
            shaped[name] = _terms(one, partial, limit)
        else:
            buckets = [
                {**_interval(one, number), "doc_count": bucket.count, **_shaped(one.inner, bucket.inner, limit)}
                for number, bucket in _intervals(one, partial, limit)
            ]
            shaped[name] = {"buckets": buckets}
    return shaped


def _metric(wanted: MetricAggregation, partial: _Partial) -> dict[str, Any]:
    average = partial.total / partial.count if partial.count else None
    if wanted.kind == "stats":
        return {"count": partial.count, "min": partial.low, "max": partial.high, "avg": average, "sum": partial.total}
    value = {
        "min": partial.low,
        "max": partial.high,
        "avg": average,
        "sum": partial.total,
        "value_count": partial.count,
    }
    shaped: dict[str, Any] = {"value": value[wanted.kind]}
    if wanted.field == _TIMESTAMP and wanted.kind in ("min", "max", "avg") and shaped["value"] is not None:
        shaped["value_as_string"] = _spell(shaped["value"])
    return shaped


def _terms(wanted: TermsAggregation, partial: _Partial, limit: _BucketLimit) -> dict[str, Any]:
    found = [pair for pair in partial.buckets.items() if pair[1].count >= wanted.minimum]
    found.sort(key=lambda pair: _sortable(pair[0]), reverse=wanted.order == "_key" and not wanted.ascending)
    if wanted.order == "_count":
        found.sort(key=lambda pair: pair[1].count, reverse=not wanted.ascending)
    kept, rest = found[: wanted.size], found[wanted.size :]
    limit.take(len(kept))
    return {
        "doc_count_error_upper_bound": partial.error,
        "sum_other_doc_count": partial.other + sum(bucket.count for _, bucket in rest),
        "buckets": [
            {
                "key": key,
                **({"key_as_string": bucket.text} if bucket.text is not None else {}),
                "doc_count": bucket.count,
                **_shaped(wanted.inner, bucket.inner, limit),
            }
            for key, bucket in kept
        ],
    }


def _sortable(key: Any) -> tuple[int, Any]:
    return (1, key) if isinstance(key, str) else (0, key)


def _intervals(
    wanted: HistogramAggregation, partial: _Partial, limit: _BucketLimit
) -> Iterator[tuple[int, _PartialBucket]]:
    """Yield (number, bucket) for each interval in the answer, in order."""
    numbers: Sequence[int] = sorted(partial.buckets)
    if wanted.minimum == 0:
        ends = list(numbers[:1]) + list(numbers[-1:])
        if wanted.bounds is not None:
            ends += [int((bound - wanted.offset) // wanted.interval) for bound in wanted.bounds]
        numbers = range(min(ends), max(ends) + 1) if ends else ()
    limit.take(len(numbers))
    for number in numbers:
        bucket = partial.buckets.get(number) or _PartialBucket()
        if bucket.count >= wanted.minimum:
            yield number, bucket


def _interval(wanted: HistogramAggregation, number: int) -> dict[str, Any]:
    key = number * wanted.interval + wanted.offset
    if not wanted.dates:
        return {"key": key}
    return {"key_as_string": _spell(key), "key": int(key)}


def _spell(milliseconds: float) -> str:
    """Return a time as Elasticsearch writes it; as a number when Python cannot represent its year."""
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return str(int(milliseconds))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
