"""Writes the Endpoints of Services with a selector: their pods' addresses (`endpoint/endpoints_controller.go`)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import annotations_of, is_deleting, labels_of
from hatchway.cluster.controllers.serviceports import (
    HEADLESS_LABEL,
    TRIGGER_TIME,
    ServedPorts,
    ServicePorts,
    has_selector,
    host_name,
    is_headless,
    pod_ip,
    selected,
    services_of,
    target_reference,
    trigger_time,
)
from hatchway.cluster.controllers.writes import delete_unless_gone, is_namespace_terminating
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_finished, is_ready, key_of

RESOURCE = "endpoints"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
# The maximum number of addresses of one Endpoints object (maxCapacity).
MAX_ADDRESSES = 1000


class EndpointsController(Controller):
    """Keeps the Endpoints of every Service that has a selector up to date."""

    name = "endpoint-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.services = context.cache("services")
        self.pods = context.cache("pods")
        self.endpoints = context.cache(RESOURCE)
        # Services that were deleted while this controller ran. Their Endpoints are deleted, even those made by users.
        self._gone: set[Key] = set()
        self.services.subscribe(self._service_changed)
        self.endpoints.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._pod_changed)

    def _service_changed(self, kind: str, service: Object, _before: Object | None) -> None:
        if kind == "DELETED":
            self._gone.add(key_of(service))
        self.enqueue(service)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        for key in services_of(self.services, pod, None if kind == "DELETED" else before):
            self.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        """Write the Endpoints of the Service `key`, or delete them when the Service is gone."""
        service = self.services.get(key)
        current = self.endpoints.get(key)
        if service is None:
            # Endpoints that a user made and that never had a Service are kept.
            if current is not None and (MANAGED_BY in labels_of(current) or key in self._gone):
                await self._delete(current)
            self._gone.discard(key)
            return None
        self._gone.discard(key)
        if not has_selector(service):
            return None
        # A Service may have thousands of pods and ports, so other tasks may run between the steps.
        pods = selected(service, self.pods)
        await asyncio.sleep(0)
        subsets, over = make_subsets(service, pods)
        await asyncio.sleep(0)
        labels = {**labels_of(service), MANAGED_BY: "endpoint-controller"}
        if is_headless(service):
            labels[HEADLESS_LABEL] = ""
        if current is not None and (current.get("subsets") or []) == subsets and labels_of(current) == labels:
            return None
        annotations = dict(annotations_of(current)) if current is not None else {}
        annotations[TRIGGER_TIME] = trigger_time(service, pods)
        annotations.pop(OVER_CAPACITY, None)
        if over:
            annotations[OVER_CAPACITY] = "truncated"
        await asyncio.sleep(0)
        await self._write(key, current, subsets, labels, annotations)
        return None

    async def _write(
        self,
        key: Key,
        current: Object | None,
        subsets: list[Object],
        labels: dict[str, str],
        annotations: dict[str, str],
    ) -> None:
        if current is None:
            metadata = {"name": key[1], "namespace": key[0], "labels": labels, "annotations": annotations}
            wanted: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
            try:
                written = await self.client.create(RESOURCE, wanted, key[0])
            except ApiError as error:
                if is_namespace_terminating(error):
                    return
                raise
        else:
            metadata = {**current["metadata"], "labels": labels, "annotations": annotations}
            wanted = {**current, "metadata": metadata, "subsets": subsets}
            written = await self.client.update(RESOURCE, wanted)
        await self.endpoints.wait_for_write(written)

    async def _delete(self, current: Object) -> None:
        await delete_unless_gone(self.client, RESOURCE, current)
        await self.endpoints.wait_for_deletion(current)


def make_subsets(service: Object, pods: list[Object]) -> tuple[list[Object], bool]:
    """Return (the `subsets` of a Service's Endpoints, True if there are too many addresses and some were left out).

    Pods that serve the same ports share a subset; pods that are not ready are in its notReadyAddresses.
    """
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    ports_wanted = bool(service["spec"].get("ports"))
    service_ports = ServicePorts(service)
    groups: dict[ServedPorts, tuple[list[Object], list[Object]]] = {}
    count, over = 0, False
    for pod in sorted(pods, key=lambda pod: (not is_ready(pod), _ip_key(pod_ip(pod)), pod["metadata"]["name"])):
        if not pod_ip(pod) or is_finished(pod) or (is_deleting(pod) and not publish):
            continue
        served = service_ports.served_by(pod)
        if served is not None and not served.ports and (ports_wanted or not is_headless(service)):
            continue
        if served is None or count >= MAX_ADDRESSES:
            over = True
            break
        count += 1
        ready, not_ready = groups.setdefault(served, ([], []))
        (ready if publish or is_ready(pod) else not_ready).append(_address(pod, service))
    subsets = []
    shown = [(_shown_ports(served), *addresses) for served, addresses in groups.items()]
    for ports, ready, not_ready in sorted(shown, key=lambda one: msgspec.json.encode(one[0])):
        subset: Object = {}
        if ready:
            subset["addresses"] = sorted(ready, key=_address_key)
        if not_ready:
            subset["notReadyAddresses"] = sorted(not_ready, key=_address_key)
        if ports:
            subset["ports"] = ports
        subsets.append(subset)
    return subsets, over


def _shown_ports(served: ServedPorts) -> list[Object]:
    """Return the ports in a fixed order. Only ports that have a name get the field `name`."""
    ordered = sorted(served.ports, key=lambda port: (port["name"], port["port"], port["protocol"]))
    return [{key: value for key, value in port.items() if value or key != "name"} for port in ordered]


def _address(pod: Object, service: Object) -> Object:
    address: Object = {"ip": pod_ip(pod), "targetRef": target_reference(pod)}
    if pod["spec"].get("nodeName"):
        address["nodeName"] = pod["spec"]["nodeName"]
    if name := host_name(pod, service):
        address["hostname"] = name
    return address


def _address_key(address: Object) -> tuple[Any, ...]:
    return _ip_key(address["ip"]), address["targetRef"]["uid"]


def _ip_key(ip: str) -> tuple[int, str]:
    return len(ip), ip
