"""Answers requests about the server: targets, /api/v1/status/..., health, and empty lists of rules and alerts."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hatchway import __version__
from hatchway.addons.monitoring.httpapi.encoding import encode, success
from hatchway.addons.monitoring.httpapi.queryapi import answer
from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore

# The version of Prometheus that this server reports. Grafana offers the features of this version.
PROMETHEUS_VERSION = "2.42.0"
_TOP = 10

# A target as /api/v1/targets shows it.
TargetReport = dict[str, Any]


class StatusApi:
    """Answers requests about the server.

    Args:
        store: stores the series.
        targets: returns the targets.
        is_ready: returns True when the targets have been looked up once.
    """

    def __init__(
        self, store: TimeSeriesStore, targets: Callable[[], Sequence[TargetReport]], is_ready: Callable[[], bool]
    ) -> None:
        self._store = store
        self._targets = targets
        self._is_ready = is_ready
        self._started = time.time()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/v1/targets", self._active),
            Route("/api/v1/rules", _fixed({"groups": []})),
            Route("/api/v1/alerts", _fixed({"alerts": []})),
            Route("/api/v1/alertmanagers", _fixed({"activeAlertmanagers": [], "droppedAlertmanagers": []})),
            Route("/api/v1/status/buildinfo", _fixed(_build())),
            Route("/api/v1/status/runtimeinfo", self._runtime),
            Route("/api/v1/status/tsdb", self._tsdb),
            Route("/api/v1/status/flags", self._flags),
            Route("/-/healthy", _healthy),
            Route("/-/ready", self._ready),
        ]

    async def _active(self, request: Request) -> Response:
        state = request.query_params.get("state", "").lower()
        active = [] if state == "dropped" else list(self._targets())
        return answer(success(encode({"activeTargets": active, "droppedTargets": []})))

    async def _runtime(self, request: Request) -> Response:
        limits = self._store.limits
        started = datetime.fromtimestamp(self._started, UTC).isoformat().replace("+00:00", "Z")
        retention = f"{limits.age // 3_600_000}h or {limits.size >> 20}MiB"
        found = {"startTime": started, "reloadConfigSuccess": True, "lastConfigTime": started, "corruptionCount": 0}
        return answer(success(encode({**found, "storageRetention": retention})))

    async def _tsdb(self, request: Request) -> Response:
        index, store = self._store.index, self._store
        metrics = [{"name": name, "value": count} for name, count in index.largest(METRIC_NAME, _TOP)]
        labels = [{"name": name, "value": count} for name, count in index.pairs(_TOP)]
        head = {"numSeries": len(index), "minTime": store.head_begin, "chunkCount": len(store.blocks)}
        found = {"headStats": head, "seriesCountByMetricName": metrics, "labelValueCountByLabelName": labels}
        return answer(success(encode(found)))

    async def _flags(self, request: Request) -> Response:
        limits = self._store.limits
        found = {
            "query.lookback-delta": "5m",
            "storage.tsdb.retention.size": f"{limits.size >> 20}MiB",
            "storage.tsdb.retention.time": f"{limits.age // 3_600_000}h",
        }
        return answer(success(encode(found)))

    async def _ready(self, request: Request) -> Response:
        if self._is_ready():
            return PlainTextResponse("Hatchway's monitoring is Ready.\n")
        return PlainTextResponse("Service Unavailable: no list of targets yet\n", 503)


def _build() -> dict[str, str]:
    return {
        "version": PROMETHEUS_VERSION,
        "revision": f"hatchway {__version__}",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": f"none (Python {platform.python_version()})",
    }


def _fixed(data: object) -> Callable[[Request], Any]:
    body = success(encode(data))

    async def handler(request: Request) -> Response:
        return answer(body)

    return handler


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("Hatchway's monitoring is Healthy.\n")
