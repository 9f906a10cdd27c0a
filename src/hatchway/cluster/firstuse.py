"""The add-ons that start on first use: their names, and the class that starts them.

Their Deployments are made with no replicas. When the service proxy (for connections) or the API server (for the proxy
verb) finds no endpoint of one of their Services, it calls `FirstUseStarts.report`, and holds the client until there is
an endpoint. Only the names in this table can be started in this way, whatever annotations other Services have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.clusterinfo import NAMESPACE
from hatchway.kube.firstuse import first_use_state

__all__ = [
    "DEPLOYMENTS",
    "DEPLOYMENT_OF",
    "HELD_AT_MOST",
    "HELD_SECONDS",
    "STARTED_ON_USE",
    "FirstUseStarts",
    "deployment_to_start",
]

DEPLOYMENTS: Final = "deployments.apps"
# Deployments of kube-system, and the Services that lead to each.
STARTED_ON_USE: Final = {
    "elasticsearch-logging": ("elasticsearch-logging", "kibana-logging"),
    "prometheus": ("prometheus", "monitoring-grafana"),
}
# The Deployment of each of these Services.
DEPLOYMENT_OF: Final = {service: name for name, services in STARTED_ON_USE.items() for service in services}
# The longest time (seconds) for which a client is held, and the maximum number of clients that one process holds.
HELD_SECONDS: Final = 30.0
HELD_AT_MOST: Final = 64
# Seconds between two attempts to start one Deployment.
_PAUSE = 1.0

_log = logging.getLogger(__name__)


def deployment_to_start(service: Object) -> str:
    """Return the Deployment that the first use of a Service starts, also while it is starting; "" for none."""
    return DEPLOYMENT_OF.get(service["metadata"]["name"], "") if first_use_state(service) else ""


class FirstUseStarts:
    """Scales Deployments from 0 to 1 replicas at their first use, which may be reported many times.

    client: may patch the scale of these Deployments. clock: monotonic seconds.
    """

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, deployment: str) -> None:
        """Start a Deployment of the table. Do nothing if the last attempt was a moment ago."""
        now = self._clock()
        if deployment not in STARTED_ON_USE or now - self._begun.get(deployment, -_PAUSE) < _PAUSE:
            return
        self._begun[deployment] = now
        task = asyncio.get_running_loop().create_task(self._start(deployment), name=f"start {deployment}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Cancel all attempts that are under way."""
        for task in self._tasks:
            task.cancel()

    async def _start(self, deployment: str) -> None:
        _log.info("%s is used for the first time: it is started", deployment)
        try:
            await self._client.patch(DEPLOYMENTS, deployment, {"spec": {"replicas": 1}}, NAMESPACE, subresource="scale")
        except ApiError as error:
            _log.warning("cannot start %s: %s", deployment, error.message)
