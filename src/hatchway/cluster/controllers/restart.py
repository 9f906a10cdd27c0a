"""What was true when the cluster went down is not true any more: no process of its pods has outlived it.

Run once, before the controllers and the nodes are there: until a kubelet says otherwise, no node and no pod is ready,
and no service has endpoints that answer. Restart counts and addresses stay for the kubelets to go on from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from hatchway.cluster.controllers.objects import clone, now, timestamp
from hatchway.kube.api import Client, Object

log = logging.getLogger(__name__)

_UNKNOWN = ("Unknown", "NodeStatusUnknown")
_SLICES = "endpointslices.discovery.k8s.io"
_MESSAGE = "the cluster was down"


async def forget_readiness(client: Client) -> None:
    """Correct every object that says so. One that cannot be corrected is named in the log and left as it is."""
    nodes, pods, slices = await asyncio.gather(client.list("nodes"), client.list("pods"), client.list(_SLICES))
    since = timestamp(now())
    await asyncio.gather(
        *(_correct(client, "nodes", "status", n, lambda o: _unready(o, ("Ready",), *_UNKNOWN, since)) for n in nodes),
        *(_correct(client, "pods", "status", pod, lambda o: _stopped(o, since)) for pod in pods),
        *(_correct(client, _SLICES, "", found, _without_endpoints) for found in slices if _is_managed(found)),
    )


async def _correct(
    client: Client, resource: str, subresource: str, obj: Object, corrected: Callable[[Object], Object | None]
) -> None:
    try:
        found = corrected(obj)
        if found is not None:
            await client.update(resource, found, subresource=subresource)
    except Exception as error:  # noqa: BLE001  whatever is wrong with one object, the cluster comes up
        metadata = obj["metadata"]
        place = f"{resource} {metadata.get('namespace', '')}/{metadata['name']}"
        log.error("the readiness of %s was not reset: %s: %s", place, type(error).__name__, error)


def _unready(obj: Object, kinds: tuple[str, ...], status: str, reason: str, since: str) -> Object | None:
    """A copy of the object without these conditions being true; None when none of them is."""
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
    return labels.get("endpointslice.kubernetes.io/managed-by") == "endpointslice-controller.k8s.io"


def _without_endpoints(found: Object) -> Object | None:
    if not any((endpoint.get("conditions") or {}).get("ready") for endpoint in found.get("endpoints") or ()):
        return None
    out = clone(found)
    for endpoint in out["endpoints"]:
        endpoint["conditions"] = {"ready": False, "serving": False, "terminating": False}
    return out
