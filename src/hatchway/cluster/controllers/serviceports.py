"""Finds the pods of a Service and the ports that they serve, for the controllers of Endpoints and EndpointSlices.

It behaves like `endpoint/endpoints_controller.go`, `k8s.io/endpointslice` and `FindPort` in `api/v1/pod/util.go`. Pure,
except for the caches that are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hatchway.cluster.controllers.indexes import by_labels, by_plain_selector, labelled
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import is_deleting, labels_of, uid_of
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, get_condition, is_finished, is_ready, key_of
from hatchway.kube.selectors import subset_matches
from hatchway.numerals import is_digits

HEADLESS_LABEL = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def has_selector(service: Object) -> bool:
    """Return True for a Service with a selector that is not of type ExternalName. Controllers make its endpoints."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def is_headless(service: Object) -> bool:
    """Return True for a Service with the clusterIP "None"."""
    return bool(service["spec"].get("clusterIP") == "None")


def selected(service: Object, pods: ObjectCache) -> list[Object]:
    """Return the pods that the service selects, sorted by name."""
    found = labelled(pods, service["metadata"]["namespace"], service["spec"]["selector"])
    return sorted(found, key=lambda pod: pod["metadata"]["name"])


def services_of(services: ObjectCache, pod: Object, before: Object | None) -> list[Key]:
    """Return the keys of the services whose endpoints a change of a pod may affect. before: None for a new pod."""
    if before is not None and _shown(pod) == _shown(before):
        return []
    index = services.index(by_plain_selector)
    return [
        key_of(service)
        for seen in (pod, before)
        if seen is not None
        for service in index.get(*by_labels(seen))
        if has_selector(service) and subset_matches(service["spec"]["selector"], labels_of(seen))
    ]


def _shown(pod: Object) -> tuple[Any, ...]:
    """Return the parts of a pod that its endpoints are made from."""
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
    """Return the pod's address; "" while it has none."""
    return (pod.get("status") or {}).get("podIP") or ""


def host_name(pod: Object, service: Object) -> str:
    """Return the pod's DNS name under the Service: spec.hostname if spec.subdomain is the Service's name, else ""."""
    spec = pod["spec"]
    return spec.get("hostname") or "" if spec.get("subdomain") == service["metadata"]["name"] else ""


def target_reference(pod: Object) -> Object:
    """Return the targetRef of this pod's endpoint."""
    namespace, name = key_of(pod)
    return {"kind": "Pod", "namespace": namespace, "name": name, "uid": uid_of(pod)}


# Limits memory: all `ServedPorts` of one Service together have at most about this many ports.
MAX_PORTS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class ServedPorts:
    """The ports of a Service, with the numbers that some of its pods use. Pods share this object, so do not change it.

    ports: name, port, protocol and appProtocol of each port, in the Service's order.
    """

    ports: list[Object]


class ServicePorts:
    """Finds which ports of one Service its pods serve. A Service may have thousands of ports and thousands of pods.

    A port's number can differ between pods only if its targetPort is a name. So pods in which these names have the same
    numbers share one result, which is made once.
    """

    def __init__(self, service: Object) -> None:
        # Each port of the Service with its target port: a number, or the name and the protocol of a port of the pod.
        self._wanted = [(port, _target(port)) for port in service["spec"].get("ports") or ()]
        self._named = frozenset(target for _, target in self._wanted if isinstance(target, tuple))
        self._known: dict[frozenset[tuple[tuple[str, str], int]], ServedPorts] = {}
        self._left = MAX_PORTS

    def served_by(self, pod: Object) -> ServedPorts | None:
        """Return the ports that the pod serves; None beyond MAX_PORTS. Pods with equal ports get the same object."""
        offered = self._offered(pod) if self._named else {}
        numbers = frozenset(offered.items())
        found = self._known.get(numbers)
        if found is None and self._left >= 0:
            found = self._known[numbers] = ServedPorts(self._resolve(offered))
            self._left -= len(found.ports)
        return found

    def _offered(self, pod: Object) -> dict[tuple[str, str], int]:
        """Return the numbers of the pod's ports that the Service names; the first one of each name (`FindPort`)."""
        found: dict[tuple[str, str], int] = {}
        sidecars = [c for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
        for container in [*(pod["spec"].get("containers") or ()), *sidecars]:
            for offered in container.get("ports") or ():
                named = (offered.get("name") or "", offered.get("protocol", "TCP"))
                if named in self._named:
                    found.setdefault(named, offered["containerPort"])
        return found

    def _resolve(self, offered: dict[tuple[str, str], int]) -> list[Object]:
        out = []
        for port, target in self._wanted:
            number = offered.get(target) if isinstance(target, tuple) else target
            if number is not None:
                entry = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
                if port.get("appProtocol"):
                    entry["appProtocol"] = port["appProtocol"]
                out.append(entry)
        return out


def _target(port: Object) -> int | tuple[str, str]:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    if is_digits(target):
        return int(target)
    return target, port.get("protocol", "TCP")


def trigger_time(service: Object, pods: list[Object]) -> str:
    """Return the latest of these times: the Service's creation, and the last change of readiness of each pod."""
    moments = [service["metadata"].get("creationTimestamp", "")]
    moments += [(get_condition(pod, "Ready") or {}).get("lastTransitionTime", "") for pod in pods]
    # RFC 3339 in UTC sorts as text.
    return max(moment or "" for moment in moments)
