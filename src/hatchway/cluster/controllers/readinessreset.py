"""Marks all nodes, pods and endpoints as not ready when the cluster starts, because no process of a pod runs.

It runs once, before controllers and nodes start. Until a kubelet reports otherwise, no node and no pod is ready, and no
Service has ready endpoints. Restart counts and addresses are kept, because kubelets continue with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from hatchway.cluster.controllers.objectfields import clone, now, timestamp
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import endpoint_is_ready
from hatchway.kube.wellknown import ENDPOINT_SLICES, MANAGED_BY, SLICE_CONTROLLER

log = logging.getLogger(__name__)

_UNKNOWN = ("Unknown", "NodeStatusUnknown")
_MESSAGE = "the cluster was down"


async def reset_readiness(client: Client) -> None:
    """Mark all nodes, pods and endpoints as not ready. An object that cannot be written is logged and left as it is."""
    nodes, pods, slices = await asyncio.gather(client.list("nodes"), client.list("pods"), client.list(ENDPOINT_SLICES))
    since = timestamp(now())
    await asyncio.gather(
        *(_correct(client, "nodes", "status", n, lambda o: _unready(o, ("Ready",), *_UNKNOWN, since)) for n in nodes),
        *(_correct(client, "pods", "status", pod, lambda o: _stopped(o, since)) for pod in pods),
        *(_correct(client, ENDPOINT_SLICES, "", found, _without_endpoints) for found in slices if _is_managed(found)),
    )


async def _correct(
    client: Client, resource: str, subresource: str, obj: Object, corrected: Callable[[Object], Object | None]
) -> None:
    try:
        found = corrected(obj)
        if found is not None:
            await client.update(resource, found, subresource=subresource)
    except Exception as error:  # noqa: BLE001  one bad object must not prevent the start
        metadata = obj["metadata"]
        place = f"{resource} {metadata.get('namespace', '')}/{metadata['name']}"
        log.error("the readiness of %s was not reset: %s: %s", place, type(error).__name__, error)


def _unready(obj: Object, kinds: tuple[str, ...], status: str, reason: str, since: str) -> Object | None:
    """Return a copy of the object in which these conditions are not true; None when none of them is true."""
    if not any(_holds(condition, kinds) for condition in obj.get("status", {}).get("conditions") or ()):
        return None
    out = clone(obj)
    for condition in out["status"]["conditions"]:
        if _holds(condition, kinds):
            condition.update(status=status, reason=reason, message=_MESSAGE, lastTransitionTime=since)
    return out


def _holds(condition: dict[str, Any], kinds: tuple[str, ...]) -> bool:
    return condition["type"] in kinds and condition["status"] == "True"


def _stopped(pod: Object, since: str) -> Object | None:
    out = _unready(pod, ("Ready", "ContainersReady"), "False", "ContainersNotReady", since)
    if out is not None:
        for status in out["status"].get("containerStatuses") or ():
            status["ready"] = False
    return out


def _is_managed(found: Object) -> bool:
    labels = found["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY) == SLICE_CONTROLLER


def _without_endpoints(found: Object) -> Object | None:
    if not any(map(endpoint_is_ready, found.get("endpoints") or ())):
        return None
    out = clone(found)
    for endpoint in out["endpoints"]:
        endpoint["conditions"] = {"ready": False, "serving": False, "terminating": False}
    return out
