"""Whether nodes and built-in services work."""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.kube.api import Object


def node_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def has_ready_endpoint(service: str, slices: Iterable[Object]) -> bool:
    """Whether one of the EndpointSlices of `service` (in the slices' namespace) has a ready endpoint."""
    return any(
        endpoint.get("conditions", {}).get("ready")
        for found in slices
        if (found["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service
        for endpoint in found.get("endpoints") or ()
    )
