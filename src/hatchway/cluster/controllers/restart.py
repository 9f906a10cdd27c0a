"""What was true when the cluster went down is not true any more: no process of its pods has outlived it.

Run once, before the controllers and the nodes are there: until a kubelet says otherwise, no node and no pod is ready,
and no service has endpoints that answer. Restart counts and addresses stay for the kubelets to go on from.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hatchway.cluster.controllers.objects import clone, now, timestamp
from hatchway.kube.api import Client, Object

_SLICES = "endpointslices.discovery.k8s.io"
_MESSAGE = "the cluster was down"


async def forget_readiness(client: Client) -> None:
    """Raises ApiError."""
    nodes, pods, slices = await asyncio.gather(client.list("nodes"), client.list("pods"), client.list(_SLICES))
    since = timestamp(now())
    changed = [
        *(("nodes", "status", _unready(node, ("Ready",), "Unknown", "NodeStatusUnknown", since)) for node in nodes),
        *(("pods", "status", _stopped(pod, since)) for pod in pods),
        *((_SLICES, "", _without_endpoints(found)) for found in slices if _is_managed(found)),
    ]
    await asyncio.gather(
        *(client.update(resource, obj, subresource=subresource) for resource, subresource, obj in changed if obj)
    )


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
