"""Counts the requests of the proxy verb by Service: their statuses and durations.

A kube-apiserver counts these requests in `apiserver_request_total`, without the Service's name. So the series of this
file have other names. Only names of existing Services become labels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hatchway.target import TargetError, split_scheme_name_port

# The upper bounds of the buckets of durations, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MOST = 1000
_REQUESTS, _SECONDS = "hatchway_proxy_requests_total", "hatchway_proxy_request_duration_seconds"


@dataclass(slots=True)
class ServiceRequests:
    """The requests for one Service.

    codes: the number of requests by status; the status is 0 for requests without an answer.
    buckets: for each bound, the number of requests that took at most this time and longer than the previous bound.
        Upgraded connections do not count.
    seconds: the sum of the durations of the requests in `buckets`.
    """

    codes: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def count(self, status: int, seconds: float) -> None:
        """Count a request that has ended. seconds: the time from its head to the end of its answer."""
        self.codes[status] = self.codes.get(status, 0) + 1
        if status != 101:
            self.buckets[bisect_left(BOUNDS, seconds)] += 1
            if seconds > 0:
                self.seconds += seconds


class ServiceMetrics:
    """The proxied requests of all Services. exists: returns True if there is a Service with this namespace and name."""

    def __init__(self, exists: Callable[[str, str], bool]) -> None:
        self._exists = exists
        self._series: dict[tuple[str, str], ServiceRequests] = {}

    def find(self, namespace: str, raw: str) -> ServiceRequests | None:
        """Return the counters of a Service; None when there is no such Service, or when there are too many counters.

        raw: `[scheme:]name[:port]`, as in the request's path.
        """
        try:
            key = (namespace, split_scheme_name_port(raw)[1])
        except TargetError:
            return None
        found = self._series.get(key)
        if found is None and len(self._series) < _MOST and self._exists(*key):
            found = self._series[key] = ServiceRequests()
        return found

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text format, and remove the counters of deleted Services."""
        for key in [key for key in self._series if not self._exists(*key)]:
            del self._series[key]
        series = sorted(self._series.items())
        yield f"# HELP {_REQUESTS} Requests of the proxy verb by Service and HTTP status."
        yield f"# TYPE {_REQUESTS} counter"
        for (namespace, name), one in series:
            for code, count in sorted(one.codes.items()):
                yield f'{_REQUESTS}{{namespace="{namespace}",service="{name}",code="{code}"}} {count}'
        yield f"# HELP {_SECONDS} Durations of requests of the proxy verb, without upgrades."
        yield f"# TYPE {_SECONDS} histogram"
        for (namespace, name), one in series:
            labels, count = f'namespace="{namespace}",service="{name}"', 0
            for bound, more in zip(BOUNDS, one.buckets, strict=False):
                count += more
                yield f'{_SECONDS}_bucket{{{labels},le="{bound:g}"}} {count}'
            total = sum(one.buckets)
            yield f'{_SECONDS}_bucket{{{labels},le="+Inf"}} {total}'
            yield f"{_SECONDS}_sum{{{labels}}} {one.seconds:.6f}"
            yield f"{_SECONDS}_count{{{labels}}} {total}"
