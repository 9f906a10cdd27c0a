"""Parses aggregations, the numbers that a search computes over its documents (`"aggs"` of its request). Pure.

terms, date_histogram, histogram, filter, filters and missing may contain further aggregations, which are computed for
each of their buckets. filter, filters and missing cannot be inside other aggregations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hatchway.addons.logging import dsl, values
from hatchway.addons.logging.problems import illegal, parsing
from hatchway.addons.logging.query import Bool, Exists, Query

# Elasticsearch's search.max_buckets, which bounds the answer of a search.
MAX_BUCKETS = 65_535
MAX_TERMS = 10_000
_MAX_DEPTH, _MAX_COUNT = 5, 100
METRICS = frozenset(("min", "max", "avg", "sum", "stats", "value_count"))
_INTERVAL = re.compile(r"([+-]?)(\d{1,12})(ms|s|m|h|d|w)\Z")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_CALENDAR = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d", "week": "1w"}
# Weeks begin on Mondays; 1970 began on a Thursday.
_MONDAY = 4 * 86_400_000
_ZONE = re.compile(r"([+-])(\d{2}):?(\d{2})\Z")


@dataclass(frozen=True, slots=True)
class TermsAggregation:
    """A bucket for each of the most frequent values of a field.

    Attributes:
        field: the field.
        size: the maximum number of buckets, from 1 to MAX_TERMS.
        order: "_count" or "_key".
        ascending: the direction of the order.
        minimum: buckets with fewer documents are left out.
        missing: the key for documents without the field; None to leave them out.
        inner: further aggregations for each bucket, by name.
    """

    field: str
    size: int
    order: str
    ascending: bool
    minimum: int
    missing: str | float | None
    inner: Aggregations


@dataclass(frozen=True, slots=True)
class HistogramAggregation:
    """A bucket for each interval of a field's values: [offset + n * interval, offset + (n + 1) * interval).

    Attributes:
        field: the field.
        dates: True when the field is a date. Numbers are then milliseconds (since 1970).
        interval: above 0.
        offset: the beginning of an interval.
        minimum: buckets with fewer documents are left out; with 0, gaps between buckets are filled with empty buckets.
        bounds: (first, last) value between which there are always buckets, when `minimum` is 0; None for no bounds.
        inner: further aggregations for each bucket, by name.
    """

    field: str
    dates: bool
    interval: float
    offset: float
    minimum: int
    bounds: tuple[float, float] | None
    inner: Aggregations


@dataclass(frozen=True, slots=True)
class MetricAggregation:
    """A number that is computed from a field's values. kind: one of METRICS."""

    kind: str
    field: str


@dataclass(frozen=True, slots=True)
class FilterAggregation:
    """A bucket for the documents of each query.

    Attributes:
        queries: the queries by name.
        single: True for `filter` and `missing`: the answer is one bucket without a name.
        inner: further aggregations for each bucket, by name.
    """

    queries: dict[str, Query]
    single: bool
    inner: Aggregations


Aggregation = TermsAggregation | HistogramAggregation | MetricAggregation | FilterAggregation
Aggregations = dict[str, Aggregation]


@dataclass(slots=True)
class _Parser:
    now: datetime
    count: int = field(default=0)

    def all(self, body: Any, depth: int) -> Aggregations:
        if not isinstance(body, dict):
            raise parsing("Expected [START_OBJECT] under [aggs], but got another token")
        if depth > _MAX_DEPTH:
            raise illegal(f"aggregations are nested deeper than {_MAX_DEPTH}")
        return {str(name): self.one(str(name), inner, depth) for name, inner in body.items()}

    def one(self, name: str, body: Any, depth: int) -> Aggregation:
        self.count += 1
        if self.count > _MAX_COUNT:
            raise illegal(f"more than {_MAX_COUNT} aggregations")
        if not isinstance(body, dict):
            raise parsing(f"Expected [START_OBJECT] under [{name[:64]}], but got another token")
        kinds = [key for key in body if key not in ("aggs", "aggregations", "meta")]
        if len(kinds) != 1:
            raise parsing(f"Expected exactly one aggregation type in [{name[:64]}], found {len(kinds)}")
        kind, settings = kinds[0], body[kinds[0]]
        inner = self.all(body.get("aggs", body.get("aggregations", {})), depth + 1)
        if not isinstance(settings, dict):
            raise parsing(f"[{str(kind)[:64]}] aggregation malformed, expected an object")
        if kind in ("filter", "filters", "missing"):
            if depth:
                raise illegal(f"[{kind}] inside another aggregation is not supported by this server")
            return self.filters(kind, settings, inner)
        if kind in METRICS:
            if inner:
                raise parsing(f"Aggregator [{name[:64]}] of type [{kind}] cannot accept sub-aggregations")
            return MetricAggregation(kind, _field(kind, settings))
        if kind == "terms":
            return self.terms(settings, inner)
        if kind in ("date_histogram", "histogram"):
            return self.histogram(kind, settings, inner)
        raise illegal(f"the aggregation type [{str(kind)[:64]}] is not supported by this server")

    def filters(self, kind: str, settings: dict[str, Any], inner: Aggregations) -> FilterAggregation:
        if kind == "missing":
            return FilterAggregation({"": Bool(must_not=(Exists(_field(kind, settings)),))}, True, inner)
        if kind == "filter":
            return FilterAggregation({"": dsl.parse(settings)}, True, inner)
        queries = settings.get("filters")
        if not isinstance(queries, dict) or not queries:
            raise illegal("[filters] needs named filters")
        self.count += len(queries)
        return FilterAggregation({str(name): dsl.parse(query) for name, query in queries.items()}, False, inner)

    def terms(self, settings: dict[str, Any], inner: Aggregations) -> TermsAggregation:
        for key in ("script", "include", "exclude"):
            if key in settings:
                raise illegal(f"[{key}] in [terms] is not supported by this server")
        order, ascending = _order(settings.get("order", {"_count": "desc"}))
        size = _number("size", settings.get("size", 10), whole=True)
        if not 0 < size <= MAX_TERMS:
            raise illegal(f"[size] must be from 1 to {MAX_TERMS}, found [{size:.0f}]")
        minimum = int(_number("min_doc_count", settings.get("min_doc_count", 1), whole=True))
        if minimum < 1:
            raise illegal("[min_doc_count] below 1 in [terms] is not supported by this server")
        missing = settings.get("missing")
        if missing is not None and (isinstance(missing, bool) or not isinstance(missing, (str, int, float))):
            raise illegal("[missing] must be a string or a number")
        return TermsAggregation(_field("terms", settings), int(size), order, ascending, minimum, missing, inner)

    def histogram(self, kind: str, settings: dict[str, Any], inner: Aggregations) -> HistogramAggregation:
        dates = kind == "date_histogram"
        minimum = int(_number("min_doc_count", settings.get("min_doc_count", 0), whole=True))
        if dates:
            interval, offset = self.interval(settings)
        else:
            interval = _number("interval", settings.get("interval"))
            offset = _number("offset", settings.get("offset", 0))
        if interval <= 0:
            raise illegal("[interval] must be above 0")
        bounds = settings.get("extended_bounds")
        if bounds is None:
            limits = None
        elif isinstance(bounds, dict) and bounds.keys() >= {"min", "max"}:
            if dates:
                low = values.date_bound(bounds["min"], self.now, up=False) / 1e6
                limits = low, values.date_bound(bounds["max"], self.now, up=True) / 1e6
            else:
                limits = _number("min", bounds["min"]), _number("max", bounds["max"])
        else:
            raise illegal("[extended_bounds] needs [min] and [max]")
        return HistogramAggregation(_field(kind, settings), dates, interval, offset % interval, minimum, limits, inner)

    def interval(self, settings: dict[str, Any]) -> tuple[float, float]:
        """Return (interval, offset) of a date histogram, in milliseconds."""
        given = [key for key in ("fixed_interval", "calendar_interval", "interval") if key in settings]
        if len(given) != 1:
            raise illegal("Invalid interval specified, must be exactly one of [fixed_interval] and [calendar_interval]")
        text = str(settings[given[0]])
        interval = _duration(given[0], _CALENDAR.get(text, text))
        if given[0] == "calendar_interval" and text not in _CALENDAR and text not in _CALENDAR.values():
            raise illegal(f"The calendar interval [{text[:64]}] is not supported by this server: use minutes to weeks")
        offset = _duration("offset", str(settings["offset"])) if "offset" in settings else 0
        if given[0] != "fixed_interval" and text in ("week", "1w"):
            offset += _MONDAY
        return interval, offset - self.zone(settings.get("time_zone", "UTC"))

    def zone(self, name: Any) -> int:
        """Return how many milliseconds a time zone (`+01:00` or `Europe/Berlin`) is ahead of UTC at present."""
        match = _ZONE.match(str(name))
        if match is not None:
            return (1 if match[1] == "+" else -1) * (int(match[2]) * 60 + int(match[3])) * 60_000
        try:
            ahead = self.now.astimezone(ZoneInfo(str(name))).utcoffset()
        except (OSError, ValueError, KeyError):
            raise illegal(f"failed to parse the time zone [{str(name)[:64]}]") from None
        return 0 if ahead is None else int(ahead.total_seconds() * 1000)


def parse(body: Any, now: datetime | None = None) -> Aggregations:
    """Return the aggregations of `"aggs"` in a search request. Raises EsProblem and QueryError."""
    return _Parser(now or datetime.now(UTC)).all(body, 0)


def _field(kind: str, settings: dict[str, Any]) -> str:
    name = settings.get("field")
    if not isinstance(name, str) or not name:
        raise illegal(f"Required one of fields [field], but none were specified in [{kind}]")
    return name


def _number(name: str, value: Any, *, whole: bool = False) -> float:
    found = values.number(value)
    if found is None or (whole and found != int(found)):
        raise illegal(f"Failed to parse [{name}] with value [{str(value)[:64]}]")
    return found


def _duration(name: str, text: str) -> int:
    match = _INTERVAL.match(text)
    if match is None:
        raise illegal(f"failed to parse [{name}] with value [{text[:64]}]: use a number and one of ms, s, m, h, d, w")
    return (-1 if match[1] == "-" else 1) * int(match[2]) * _UNITS[match[3]]


def _order(order: Any) -> tuple[str, bool]:
    if isinstance(order, list):
        order = order[0] if order else {"_count": "desc"}
    if not isinstance(order, dict) or len(order) != 1:
        raise illegal("[order] in [terms] must be an object with one key")
    key, direction = next(iter(order.items()))
    key = {"_term": "_key"}.get(key, key)
    if key not in ("_count", "_key") or direction not in ("asc", "desc"):
        raise illegal("[order] in [terms] must be by [_count] or [_key], [asc] or [desc]")
    return key, direction == "asc"
