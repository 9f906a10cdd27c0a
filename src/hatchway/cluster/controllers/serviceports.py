"""From a Service and a pod to an endpoint: what Endpoints and EndpointSlices have in common.

Behaviour: `endpoint/endpoints_controller.go`, `endpointslice` (staging), `api/v1/pod/util.go FindPort`. Pure, but for the
caches that `services_of` reads.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.controllers.base import Cache
from hatchway.cluster.controllers.objects import (
    Key,
    get_condition,
    is_deleting,
    is_finished,
    is_ready,
    key_of,
    labels_of,
    subset_matches,
    uid_of,
)
from hatchway.kube.api import Object
from hatchway.numerals import is_digits

HEADLESS_LABEL = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def has_selector(service: Object) -> bool:
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def selected(service: Object, pods: Cache) -> list[Object]:
    """The pods that the service selects, in a stable order."""
    namespace = service["metadata"]["namespace"]
    wanted = service["spec"]["selector"]
    found = [pod for pod in pods.in_namespace(namespace) if subset_matches(wanted, labels_of(pod))]
    return sorted(found, key=lambda pod: pod["metadata"]["name"])


def services_of(services: Cache, pod: Object, before: Object | None) -> list[Key]:
    """The services whose endpoints a pod's change may change; empty when it changed nothing that they show."""
    if before is not None and _shown(pod) == _shown(before):
        return []
    labels = [labels_of(seen) for seen in (pod, before) if seen is not None]
    return [
        key_of(service)
        for service in services.in_namespace(pod["metadata"]["namespace"])
        if has_selector(service) and any(subset_matches(service["spec"]["selector"], found) for found in labels)
    ]


def _shown(pod: Object) -> tuple[Any, ...]:
    spec = pod["spec"]
    return (
        uid_of(pod),
        labels_of(pod),
        pod_ip(pod),
        is_ready(pod),
        is_deleting(pod),
        is_finished(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def pod_ip(pod: Object) -> str:
    return (pod.get("status") or {}).get("podIP") or ""


def host_name(pod: Object, service: Object) -> str:
    """The name that DNS gives the pod below the service: spec.hostname, when spec.subdomain is the service."""
    spec = pod["spec"]
    return spec.get("hostname") or "" if spec.get("subdomain") == service["metadata"]["name"] else ""


def target_reference(pod: Object) -> Object:
    namespace, name = key_of(pod)
    return {"kind": "Pod", "namespace": namespace, "name": name, "uid": uid_of(pod)}


def target_port(pod: Object, port: Object) -> int | None:
    """The number behind a service port's targetPort in this pod; None when the pod names no such port."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    if is_digits(target):
        return int(target)
    protocol = port.get("protocol", "TCP")
    sidecars = [c for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(pod["spec"].get("containers") or ()), *sidecars]:
        for offered in container.get("ports") or ():
            if offered.get("name") == target and offered.get("protocol", "TCP") == protocol:
                number: int = offered["containerPort"]
                return number
    return None


def endpoint_ports(pod: Object, service: Object) -> list[Object]:
    """The service's ports as this pod serves them: name, port, protocol and appProtocol of each that it has."""
    out = []
    for port in service["spec"].get("ports") or ():
        number = target_port(pod, port)
        if number is not None:
            entry = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            if port.get("appProtocol"):
                entry["appProtocol"] = port["appProtocol"]
            out.append(entry)
    return out


def trigger_time(service: Object, pods: list[Object]) -> str:
    """The latest moment at which the service or one of its pods gave reason for a change."""
    moments = [service["metadata"].get("creationTimestamp", "")]
    moments += [(get_condition(pod, "Ready") or {}).get("lastTransitionTime", "") for pod in pods]
    # RFC 3339 in UTC sorts as text.
    return max(moment or "" for moment in moments)
