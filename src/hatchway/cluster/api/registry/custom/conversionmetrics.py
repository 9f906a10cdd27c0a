"""Counts the calls of conversion webhooks (apiextensions' `pkg/apiserver/conversion/metrics.go`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["ConversionMetrics"]

_BY_TYPE = "apiserver_crd_conversion_webhook_duration_seconds"
_REQUESTS, _SECONDS = "apiserver_conversion_webhook_request_total", "apiserver_conversion_webhook_duration_seconds"
# Upper bounds of the histograms' buckets, in seconds.
_BY_TYPE_BOUNDS = tuple(0.001 * 2**step for step in range(15))
_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 45, 60)
# The maximum number of series of a histogram by type. The calls of further types are counted only in the histogram of
# all types.
_MAX_SERIES = 1000

_Labels = tuple[str, ...]


@dataclass(slots=True)
class _Durations:
    """The durations of the calls with the same labels.

    buckets: for each bound, the number of calls above the previous bound and up to this bound; last, the number of
        calls above all bounds.
    seconds: the sum of the durations.
    """

    buckets: list[int]
    seconds: float = 0.0


@dataclass(slots=True)
class _Histogram:
    name: str
    help: str
    labels: _Labels
    bounds: tuple[float, ...]
    series: dict[_Labels, _Durations] = field(default_factory=dict)

    def observe(self, values: _Labels, seconds: float) -> None:
        found = self.series.get(values)
        if found is None:
            if len(self.series) >= _MAX_SERIES:
                return
            found = self.series[values] = _Durations([0] * (len(self.bounds) + 1))
        found.buckets[bisect_left(self.bounds, seconds)] += 1
        found.seconds += seconds

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        for values, one in sorted(self.series.items()):
            labels, count = _shown(dict(zip(self.labels, values, strict=True))), 0
            for bound, more in zip(self.bounds, one.buckets, strict=False):
                count += more
                yield f'{self.name}_bucket{{{labels},le="{bound:g}"}} {count}'
            total = sum(one.buckets)
            yield f'{self.name}_bucket{{{labels},le="+Inf"}} {total}'
            yield f"{self.name}_sum{{{labels}}} {one.seconds:.6f}"
            yield f"{self.name}_count{{{labels}}} {total}"


class ConversionMetrics:
    """The counters of all conversion webhooks."""

    def __init__(self) -> None:
        self._by_type = _Histogram(
            _BY_TYPE,
            "CRD webhook conversion duration in seconds",
            ("crd_name", "from_version", "to_version", "succeeded"),
            _BY_TYPE_BOUNDS,
        )
        self._all = _Histogram(_SECONDS, "Conversion webhook request latency", ("result", "failure_type"), _BOUNDS)

    def observe(self, name: str, versions: tuple[str, str], seconds: float, failure: str) -> None:
        """Count a call.

        name: the name of the definition. versions: the versions before and after the conversion. seconds: the duration
        of the call. failure: the type of the failure; "" for a success.
        """
        self._by_type.observe((name, *versions, "false" if failure else "true"), seconds)
        self._all.observe(("failure" if failure else "success", failure), seconds)

    def lines(self) -> Iterator[str]:
        """Yield the metrics as lines of the Prometheus text format; none before the first call."""
        if not self._all.series:
            return
        yield from self._by_type.lines()
        yield f"# HELP {_REQUESTS} Counter for conversion webhook requests with success/failure and failure error type"
        yield f"# TYPE {_REQUESTS} counter"
        for values, one in sorted(self._all.series.items()):
            labels = _shown(dict(zip(self._all.labels, values, strict=True)))
            yield f"{_REQUESTS}{{{labels}}} {sum(one.buckets)}"
        yield from self._all.lines()


def _shown(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())
