"""What the API server counts, as Prometheus reads it at `/metrics` (text format 0.0.4).

Names and labels are apiserver's (`endpoints/metrics/metrics.go`), as far as they mean anything here. A request costs a
look-up, two additions and a bisection. What clients write never becomes a label: only served resources and known verbs do.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hatchway.cluster.api.registry import Resource
from hatchway.cluster.api.requestinfo import RequestInfo

__all__ = ["CONTENT_TYPE", "Kind", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Upper bounds of durations, seconds.
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_VERBS = frozenset(
    (
        "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy",
        "head", "post", "put", "options",
    )
)  # fmt: skip
_READS = frozenset(("get", "list", "watch", "head", "options"))
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

# verb, group, version, resource, subresource
_Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Series:
    """The requests of one kind. buckets: how many took at most as long as each bound, and longer than the one before."""

    codes: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    seconds: float = 0.0
    under_way: int = 0


class Kind(Protocol):
    """Requests of one kind: `begin` and `end` are called once for each."""

    def begin(self) -> None: ...

    def end(self, status: int, seconds: float) -> None:
        """It is over. status: what it was answered with, 0 for nothing. seconds: how long it took."""


class _LongRunning:
    """How long these last says nothing about the server."""

    __slots__ = ("_series",)

    def __init__(self, series: _Series) -> None:
        self._series = series

    def begin(self) -> None:
        self._series.under_way += 1

    def end(self, status: int, _seconds: float) -> None:
        series = self._series
        series.codes[status] = series.codes.get(status, 0) + 1
        series.under_way -= 1


class _Short:
    """Their durations count."""

    __slots__ = ("_in_flight", "_series", "_slot")

    def __init__(self, series: _Series, in_flight: list[int], slot: int) -> None:
        self._series = series
        self._in_flight = in_flight
        self._slot = slot

    def begin(self) -> None:
        self._in_flight[self._slot] += 1

    def end(self, status: int, seconds: float) -> None:
        series = self._series
        series.codes[status] = series.codes.get(status, 0) + 1
        self._in_flight[self._slot] -= 1
        series.buckets[bisect_left(_BOUNDS, seconds)] += 1
        series.seconds += max(0.0, seconds)


class Metrics:
    """The counters of one API server. in_flight: [reads, writes] under way, without long-running requests."""

    def __init__(self, rows: Iterable[Resource]) -> None:
        self._known = {
            (row.group, row.version, row.plural, sub)
            for row in rows
            for sub in ("", *(one.name for one in row.subresources))
        }
        self._series: dict[_Key, _Series] = {}
        self._refused: dict[int, int] = {}
        self.in_flight = [0, 0]

    def kind(self, info: RequestInfo, *, long_running: bool) -> Kind:
        """Where a request is counted whose sender is known."""
        key = (info.verb, info.api_group, info.api_version, info.resource, info.subresource)
        series = self._series.get(key)
        if series is None:
            series = self._make(key)
        return _LongRunning(series) if long_running else _Short(series, self.in_flight, 0 if info.verb in _READS else 1)

    def refused(self, status: int) -> None:
        """Count a request that did not get as far as that: malformed, or from nobody known."""
        self._refused[status] = self._refused.get(status, 0) + 1

    def _make(self, key: _Key) -> _Series:
        verb, group, version, resource, subresource = key
        if verb not in _VERBS:
            verb = "other"
        if (group, version, resource, subresource) not in self._known:
            group = version = resource = subresource = ""
        cleaned = (verb, group, version, resource, subresource)
        return self._series.setdefault(cleaned, _Series())

    def text(self) -> bytes:
        """Everything, in the text format."""
        return "".join(f"{line}\n" for line in self._lines()).encode()

    def _lines(self) -> Iterator[str]:
        series = sorted(self._series.items())
        yield from _head("apiserver_request_total", "counter", "Requests by verb, resource and HTTP status.")
        for key, one in series:
            for code, count in sorted(one.codes.items()):
                yield f'apiserver_request_total{{{_labels(key)},code="{code}"}} {count}'
        yield from _head(
            "apiserver_request_duration_seconds", "histogram", "Durations of requests that are not long-running."
        )
        for key, one in series:
            total = sum(one.buckets)
            if not total:
                continue
            labels, count = _labels(key), 0
            for bound, more in zip(_BOUNDS, one.buckets, strict=False):
                count += more
                yield f'apiserver_request_duration_seconds_bucket{{{labels},le="{bound:g}"}} {count}'
            yield f'apiserver_request_duration_seconds_bucket{{{labels},le="+Inf"}} {total}'
            yield f"apiserver_request_duration_seconds_sum{{{labels}}} {one.seconds:.6f}"
            yield f"apiserver_request_duration_seconds_count{{{labels}}} {total}"
        yield from _head("apiserver_current_inflight_requests", "gauge", "Requests under way, long-running ones apart.")
        for kind, value in zip(("readOnly", "mutating"), self.in_flight, strict=True):
            yield f'apiserver_current_inflight_requests{{request_kind="{kind}"}} {value}'
        yield from _head("apiserver_longrunning_requests", "gauge", "Watches, logs and proxied exchanges under way.")
        for key, one in series:
            if one.under_way:
                yield f"apiserver_longrunning_requests{{{_labels(key)}}} {one.under_way}"
        yield from _head("apiserver_registered_watchers", "gauge", "Watches under way, by resource.")
        for key, one in series:
            if key[0] == "watch" and one.under_way:
                group, version, resource = key[1:4]
                yield (
                    f'apiserver_registered_watchers{{group="{group}",version="{version}",resource="{resource}"}} '
                    f"{one.under_way}"
                )
        yield from _head(
            "apiserver_rejected_requests_total", "counter", "Requests that were malformed or from nobody known."
        )
        for code, count in sorted(self._refused.items()):
            yield f'apiserver_rejected_requests_total{{code="{code}"}} {count}'
        yield from _process()


def _head(name: str, kind: str, words: str) -> tuple[str, str]:
    return f"# HELP {name} {words}", f"# TYPE {name} {kind}"


def _labels(key: _Key) -> str:
    verb, group, version, resource, subresource = key
    return (
        f'verb="{verb.upper()}",group="{group}",version="{version}",resource="{resource}",subresource="{subresource}"'
    )


def _process() -> Iterator[str]:
    """The process itself, under the names that every Prometheus client gives it; nothing where there is no /proc."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        descriptors = len(os.listdir("/proc/self/fd"))
    except OSError:
        return
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    cpu = (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
    for name, kind, words, value in (
        ("process_cpu_seconds_total", "counter", "User and system time, seconds.", f"{cpu:.2f}"),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", resident),
        ("process_open_fds", "gauge", "Open file descriptors.", descriptors),
    ):
        yield from _head(name, kind, words)
        yield f"{name} {value}"
