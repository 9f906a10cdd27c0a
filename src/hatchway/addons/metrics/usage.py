"""Computes the usage of nodes and containers from the counters of kubelets (metrics-server `pkg/storage`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from hatchway.addons.metrics.exposition import MetricSample

__all__ = ["METRICS", "AverageUsage", "ContainerKey", "UsageStore"]

METRICS = frozenset(
    (
        "node_cpu_usage_seconds_total",
        "node_memory_working_set_bytes",
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_start_time_seconds",
    )
)
# CPU usage is the average over about this many seconds, if there are samples that are this far apart.
_WINDOW = 15.0
# A sample replaces the last one if it is less than this many seconds newer: kubelets measure at most once in a second.
_LEAST = 0.5
# Usage that is older than this many seconds is not shown: for example, its node no longer answers.
_STALE = 60.0

K = TypeVar("K")

# (namespace, pod, container)
ContainerKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class AverageUsage:
    """The usage in the time before a measurement.

    cpu: cores, on average over the window. memory: bytes. time: the time of the measurement, in seconds since the
    epoch. window: the seconds before `time` for which `cpu` is the average.
    """

    cpu: float
    memory: float
    time: float
    window: float


@dataclass(slots=True)
class _Point:
    time: float
    cpu: float


@dataclass(slots=True)
class _Counters:
    """The measurements of one container or node.

    points: the oldest first. memory: bytes, at the last point. started: seconds since the epoch; 0 when unknown.
    """

    points: list[_Point] = field(default_factory=list)
    memory: float = 0.0
    started: float = 0.0

    def add(self, point: _Point, memory: float, started: float) -> None:
        last = self.points[-1] if self.points else None
        if last is not None and (point.cpu < last.cpu or (started and started > last.time)):
            # The container was restarted, so the older points belong to another process.
            self.points.clear()
        elif last is not None and point.time - last.time < _LEAST:
            if point.time <= last.time:
                return
            if len(self.points) > 1:
                self.points.pop()
        self.points.append(point)
        while len(self.points) > 2 and point.time - self.points[1].time >= _WINDOW:
            del self.points[0]
        self.memory, self.started = memory, started

    def usage(self) -> AverageUsage | None:
        if not self.points:
            return None
        last, first = self.points[-1], self.points[0]
        if first is last:
            # There is only one point. The container's start is the other point, if it was not long ago.
            if not self.started or not _LEAST <= last.time - self.started <= 2 * _WINDOW:
                return None
            first = _Point(self.started, 0.0)
        window = last.time - first.time
        return AverageUsage(max(0.0, (last.cpu - first.cpu) / window), self.memory, last.time, window)


class UsageStore:
    """The usage of all nodes and containers."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Counters] = {}
        # The containers of each node.
        self._containers: dict[str, dict[ContainerKey, _Counters]] = {}

    def add(self, node: str, samples: Iterable[MetricSample], now: float) -> None:
        """Add a kubelet's metrics. Forget containers that the kubelet no longer reports.

        now: seconds since the epoch.
        """
        found: dict[ContainerKey, dict[str, MetricSample]] = {}
        own: dict[str, MetricSample] = {}
        for sample in samples:
            kind, _, rest = sample.name.partition("_")
            if kind == "node":
                own[rest] = sample
            else:
                labels = sample.labels
                key = labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", "")
                found.setdefault(key, {})[rest] = sample
        _add(self._nodes, node, own, now)
        before = self._containers.pop(node, {})
        kept: dict[ContainerKey, _Counters] = {}
        for key, metrics in found.items():
            if key in before:
                kept[key] = before[key]
            _add(kept, key, metrics, now)
        self._containers[node] = kept

    def forget(self, node: str) -> None:
        """Forget a node that does not exist any more."""
        self._nodes.pop(node, None)
        self._containers.pop(node, None)

    def node(self, name: str, now: float) -> AverageUsage | None:
        """Return the usage of a node; None when it is not known or too old."""
        series = self._nodes.get(name)
        return _fresh(series, now) if series is not None else None

    def container(self, node: str, key: ContainerKey, now: float) -> AverageUsage | None:
        """Return the usage of a container on a node; None when it is not known or too old."""
        series = self._containers.get(node, {}).get(key)
        return _fresh(series, now) if series is not None else None


def _add(into: dict[K, _Counters], key: K, metrics: dict[str, MetricSample], now: float) -> None:
    cpu, memory = metrics.get("cpu_usage_seconds_total"), metrics.get("memory_working_set_bytes")
    if cpu is None or memory is None:
        return
    started = metrics.get("start_time_seconds")
    series = into.setdefault(key, _Counters())
    series.add(_Point(cpu.time or now, cpu.value), memory.value, started.value if started is not None else 0.0)


def _fresh(series: _Counters, now: float) -> AverageUsage | None:
    found = series.usage()
    return found if found is not None and now - found.time <= _STALE else None
