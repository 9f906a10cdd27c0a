"""Functions on Kubernetes objects that many rooms need: keys, conditions. Pure."""

from __future__ import annotations

from typing import Any

from hatchway.kube.api import Object

# (namespace, name); the namespace of cluster-scoped objects is "".
Key = tuple[str, str]


def key_of(obj: Object) -> Key:
    """Return (namespace, name); the namespace of cluster-scoped objects is ""."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def get_condition(obj: Object, kind: str) -> dict[str, Any] | None:
    """Return the condition of this type in `status.conditions`; None when there is none."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def is_ready(obj: Object) -> bool:
    """Return True when the condition Ready of a pod or node is True."""
    condition = get_condition(obj, "Ready")
    return condition is not None and condition.get("status") == "True"


def endpoint_is_ready(endpoint: Object) -> bool:
    """Return True when an endpoint of an EndpointSlice is ready. An unset condition means ready (discovery/v1)."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def is_finished(pod: Object) -> bool:
    """Return True when all containers of a pod have ended and will not be restarted."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
