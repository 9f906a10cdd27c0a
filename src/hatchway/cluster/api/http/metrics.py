"""The API server's metrics for `/metrics` (Prometheus' text format 0.0.4).

Names and labels are those of apiserver (`endpoints/metrics/metrics.go`), as far as they have a meaning in Hatchway. To
count a request takes one look-up, two additions and one bisection, and twice as many for the proxy verb. The values of
labels are only served resources, known verbs and names of existing Services, never other text from clients.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.http.servicemetrics import BOUNDS, ServiceMetrics, ServiceRequests
from hatchway.cluster.api.registry.resource import Resource

__all__ = ["CONTENT_TYPE", "RequestKind", "RequestMetrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_VERBS = frozenset(
    (
        "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy",
        "head", "post", "put", "options",
    )
)  # fmt: skip
_READS = frozenset(("get", "list", "watch", "head", "options"))
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

# The verb, group, version, resource and subresource of requests.
_Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Series:
    """The requests of one kind.

    codes: the number of requests by status.
    buckets: for each bound, the number of requests that took at most this time and longer than the previous bound.
    seconds: the sum of their durations.
    under_way: the number of requests that have not ended.
    """

    codes: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0
    under_way: int = 0


class RequestKind(Protocol):
    """Requests of one kind: `begin` and `end` are called once for each request."""

    def begin(self) -> None:
        """Count a request that begins."""
        ...

    def end(self, status: int, seconds: float) -> None:
        """Count a request that ends. status: of the answer; 0 without an answer. seconds: the request's duration."""
        ...


class _LongRunning:
    """Requests whose duration the client determines. Therefore, their durations are not counted."""

    __slots__ = ("_series",)

    def __init__(self, series: _Series) -> None:
        self._series = series

    def begin(self) -> None:
        self._series.under_way += 1

    def end(self, status: int, _seconds: float) -> None:
        series = self._series
        series.codes[status] = series.codes.get(status, 0) + 1
        series.under_way -= 1


class _Proxied(_LongRunning):
    """Requests of the proxy verb for one Service."""

    __slots__ = ("_service",)

    def __init__(self, series: _Series, service: ServiceRequests) -> None:
        super().__init__(series)
        self._service = service

    def end(self, status: int, seconds: float) -> None:
        _LongRunning.end(self, status, seconds)
        self._service.count(status, seconds)


class _Short:
    """Requests that are not long-running. Their durations are counted."""

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
        series.buckets[bisect_left(BOUNDS, seconds)] += 1
        series.seconds += max(0.0, seconds)


class RequestMetrics:
    """The counters of one API server.

    in_flight: the numbers of reads and of writes that are under way, without long-running requests.

    Args:
        rows: the served resources.
        services: counts the requests that go to Services.
    """

    def __init__(self, rows: Iterable[Resource], services: ServiceMetrics | None = None) -> None:
        self._series: dict[_Key, _Series] = {}
        self._known: set[tuple[str, ...]] = set()
        self.set_rows(rows)
        self._refused: dict[int, int] = {}
        self._services = services
        self.in_flight = [0, 0]

    def set_rows(self, rows: Iterable[Resource]) -> None:
        """Replace the served resources. The counters of all other resources are dropped."""
        self._known = {
            (row.group, row.version, row.plural, sub)
            for row in rows
            for sub in ("", *(one.name for one in row.subresources))
        }
        self._series = {key: one for key, one in self._series.items() if not key[3] or key[1:] in self._known}

    def kind(self, info: RequestInfo, *, long_running: bool) -> RequestKind:
        """Return the series in which an authenticated request is counted."""
        key = (info.verb, info.api_group, info.api_version, info.resource, info.subresource)
        series = self._series.get(key)
        if series is None:
            series = self._make(key)
        if self._services is not None and info.subresource == "proxy" and info.resource == "services":
            service = self._services.find(info.namespace, info.name)
            if service is not None:
                return _Proxied(series, service)
        return _LongRunning(series) if long_running else _Short(series, self.in_flight, 0 if info.verb in _READS else 1)

    def refused(self, status: int) -> None:
        """Count a request that was malformed or could not be authenticated."""
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
        """Return all metrics in the text format."""
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
            for bound, more in zip(BOUNDS, one.buckets, strict=False):
                count += more
                yield f'apiserver_request_duration_seconds_bucket{{{labels},le="{bound:g}"}} {count}'
            yield f'apiserver_request_duration_seconds_bucket{{{labels},le="+Inf"}} {total}'
            yield f"apiserver_request_duration_seconds_sum{{{labels}}} {one.seconds:.6f}"
            yield f"apiserver_request_duration_seconds_count{{{labels}}} {total}"
        yield from _head("apiserver_current_inflight_requests", "gauge", "Current requests, without long-running ones.")
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
            "apiserver_rejected_requests_total", "counter", "Requests that were malformed or not authenticated."
        )
        for code, count in sorted(self._refused.items()):
            yield f'apiserver_rejected_requests_total{{code="{code}"}} {count}'
        if self._services is not None:
            yield from self._services.lines()
        yield from _process()


def _head(name: str, kind: str, words: str) -> tuple[str, str]:
    return f"# HELP {name} {words}", f"# TYPE {name} {kind}"


def _labels(key: _Key) -> str:
    verb, group, version, resource, subresource = key
    return (
        f'verb="{verb.upper()}",group="{group}",version="{version}",resource="{resource}",subresource="{subresource}"'
    )


def _process() -> Iterator[str]:
    """Yield metrics of the process with the standard names of Prometheus clients; none without /proc."""
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
