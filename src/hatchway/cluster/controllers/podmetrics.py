"""Reads the usage of pods from the metrics API, for controllers. Pure, except for the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from hatchway.cluster.controllers.objectfields import parse_time
from hatchway.cluster.quantity import parse_quantity
from hatchway.errors import ApiError
from hatchway.kube.api import Object

# fetch(namespace): returns the PodMetrics of a namespace. Raises ApiError.
FetchPodMetrics = Callable[[str], Awaitable[list[Object]]]


class NoMetrics(Exception):
    """A metric is not available at all, or not for these pods. The message says why."""


@dataclass(frozen=True, slots=True)
class PodUsage:
    """The usage of a resource by a pod.

    value: in thousandths of the unit.
    moment: the end of the time window in which it was measured.
    window: the length of this time window in seconds.
    """

    value: int
    moment: datetime
    window: float


async def unavailable(_namespace: str) -> list[Object]:
    """Raise ApiError 503. This is the `FetchPodMetrics` of a cluster without a metrics API."""
    why = "the server is currently unable to handle the request (get pods.metrics.k8s.io)"
    raise ApiError(503, "ServiceUnavailable", why)


async def fetch_usage(
    fetch: FetchPodMetrics, namespace: str, names: set[str], resource: str, container: str = ""
) -> dict[str, PodUsage]:
    """Fetch the usage of the pods with these names (`podautoscaler/metrics/client.go`).

    container: only the usage of this container; "" for the whole pod.

    Returns the usage by the pods' names, without pods that lack a value. Raises NoMetrics.
    """
    try:
        items = await fetch(namespace)
    except ApiError as error:
        raise NoMetrics(f"unable to fetch metrics from resource metrics API: {error.message}") from error
    found: dict[str, PodUsage] = {}
    for item in items:
        name = (item.get("metadata") or {}).get("name")
        moment = parse_time(item.get("timestamp"))
        if name not in names or moment is None:
            continue
        total = 0
        try:
            for one in item.get("containers") or ():
                if not container or one.get("name") == container:
                    total += int(parse_quantity((one.get("usage") or {})[resource]) * 1000)
            window = _seconds(item.get("window") or "")
        except (KeyError, ValueError):
            # As in client.go, a pod has no usage when one of its containers has none.
            continue
        found[name] = PodUsage(total, moment, window)
    if not found:
        raise NoMetrics("no metrics returned from resource metrics API")
    return found


def _seconds(text: str) -> float:
    """Return the seconds of a duration such as `1m30s`, as metrics servers write windows. Raises ValueError."""
    minutes, _, seconds = text.rpartition("m")
    return (float(minutes) * 60 if minutes else 0.0) + (float(seconds.removesuffix("s")) if seconds else 0.0)
