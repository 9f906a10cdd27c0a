"""Keeps Endpoints: for each Service with a selector, the addresses of its pods (`endpoint/endpoints_controller.go`)."""

from __future__ import annotations

import json
from typing import Any

from hatchway.cluster.controllers.base import Context, Controller
from hatchway.cluster.controllers.objects import (
    Key,
    annotations_of,
    clone,
    is_deleting,
    is_finished,
    is_ready,
    key_of,
    labels_of,
)
from hatchway.cluster.controllers.serviceports import (
    HEADLESS_LABEL,
    TRIGGER_TIME,
    endpoint_ports,
    has_selector,
    host_name,
    is_headless,
    pod_ip,
    selected,
    services_of,
    target_reference,
    trigger_time,
)
from hatchway.errors import ApiError
from hatchway.kube.api import Object

RESOURCE = "endpoints"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MAX_ADDRESSES = 1000


class EndpointsController(Controller):
    name = "endpoint-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = context.cache("services")
        self.pods = context.cache("pods")
        self.endpoints = context.cache(RESOURCE)
        # Services that were seen to go: their Endpoints go too, even hand-made ones.
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
        service = self.services.get(key)
        current = self.endpoints.get(key)
        if service is None:
            # Hand-made Endpoints that never had a service stay.
            if current is not None and (MANAGED_BY in labels_of(current) or key in self._gone):
                await self._delete(current)
            self._gone.discard(key)
            return None
        self._gone.discard(key)
        if not has_selector(service):
            return None
        pods = selected(service, self.pods)
        subsets, over = make_subsets(service, pods)
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
                if any(c.get("reason") == "NamespaceTerminating" for c in (error.details or {}).get("causes") or ()):
                    return
                raise
        else:
            wanted = clone(current)
            wanted["metadata"]["labels"] = labels
            wanted["metadata"]["annotations"] = annotations
            wanted["subsets"] = subsets
            written = await self.client.update(RESOURCE, wanted)
        await self.endpoints.shows(written)

    async def _delete(self, current: Object) -> None:
        metadata = current["metadata"]
        try:
            await self.client.delete(RESOURCE, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        await self.endpoints.shows_deletion(current)


def make_subsets(service: Object, pods: list[Object]) -> tuple[list[Object], bool]:
    """The `subsets` of a service's Endpoints, and whether addresses were left out since there are too many.

    Pods that serve the same ports share a subset; those that are not ready stand under notReadyAddresses.
    """
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    ports_wanted = bool(service["spec"].get("ports"))
    groups: dict[str, tuple[list[Object], list[Object], list[Object]]] = {}
    count, over = 0, False
    for pod in sorted(pods, key=lambda pod: (not is_ready(pod), _ip_key(pod_ip(pod)), pod["metadata"]["name"])):
        if not pod_ip(pod) or is_finished(pod) or (is_deleting(pod) and not publish):
            continue
        ports = sorted(endpoint_ports(pod, service), key=lambda port: (port["name"], port["port"], port["protocol"]))
        if not ports and (ports_wanted or not is_headless(service)):
            continue
        if count >= MAX_ADDRESSES:
            over = True
            break
        count += 1
        for port in ports:
            if not port["name"]:
                del port["name"]
        _, ready, not_ready = groups.setdefault(json.dumps(ports, sort_keys=True), (ports, [], []))
        (ready if publish or is_ready(pod) else not_ready).append(_address(pod, service))
    subsets = []
    for _, (ports, ready, not_ready) in sorted(groups.items()):
        subset: Object = {}
        if ready:
            subset["addresses"] = sorted(ready, key=_address_key)
        if not_ready:
            subset["notReadyAddresses"] = sorted(not_ready, key=_address_key)
        if ports:
            subset["ports"] = ports
        subsets.append(subset)
    return subsets, over


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
