"""Writes the EndpointSlices of Services with a selector: their pods' addresses, ports and conditions.

It works like Kubernetes' `k8s.io/endpointslice`.
"""

from __future__ import annotations

import asyncio
import logging

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import by_service
from hatchway.cluster.controllers.objectfields import is_deleting, labels_of
from hatchway.cluster.controllers.serviceports import (
    HEADLESS_LABEL,
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
from hatchway.cluster.controllers.slices import (
    EndpointGroup,
    carry_out,
    make_plan,
    slice_annotations,
)
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_finished, is_ready
from hatchway.kube.wellknown import ENDPOINT_SLICES, MANAGED_BY, SERVICE_NAME, SLICE_CONTROLLER

log = logging.getLogger(__name__)

ZONE_LABEL = "topology.kubernetes.io/zone"
# Other tasks may run after this many endpoints have been made.
_AT_ONCE = 200


class EndpointSliceController(Controller):
    """Keeps the EndpointSlices of every Service that has a selector up to date."""

    name = "endpointslice-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.services = context.cache("services")
        self.pods = context.cache("pods")
        self.nodes = context.cache("nodes")
        self.slices = context.cache(ENDPOINT_SLICES)
        self.services.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._pod_changed)
        self.slices.subscribe(self._slice_changed)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        for key in services_of(self.services, pod, None if kind == "DELETED" else before):
            self.queue.add(key)

    def _slice_changed(self, _kind: str, found: Object, before: Object | None) -> None:
        for seen in (found, before):
            labels = labels_of(seen) if seen is not None else {}
            if seen is not None and labels.get(MANAGED_BY) == SLICE_CONTROLLER and labels.get(SERVICE_NAME):
                self.queue.add((seen["metadata"]["namespace"], labels[SERVICE_NAME]))

    async def reconcile(self, key: Key) -> float | None:
        """Bring the EndpointSlices of the Service `key` up to date with its pods."""
        service = self.services.get(key)
        if service is None or is_deleting(service):
            # The garbage collector deletes the EndpointSlices of a deleted Service.
            return None
        existing = [
            found
            for found in self.slices.index(by_service).get(key)
            if labels_of(found).get(MANAGED_BY) == SLICE_CONTROLLER and not is_deleting(found)
        ]
        if not has_selector(service):
            return None
        # A Service may have thousands of pods and ports, so other tasks may run between the steps.
        pods = selected(service, self.pods)
        await asyncio.sleep(0)
        service_ports = ServicePorts(service)
        groups: dict[ServedPorts, EndpointGroup] = {}
        for number, pod in enumerate(pods):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if not pod_ip(pod) or is_finished(pod):
                continue
            served = service_ports.served_by(pod)
            if served is None:
                log.warning("%s/%s: its pods serve too many different ports; the other pods get no endpoints", *key)
                break
            group = groups.setdefault(served, EndpointGroup(served.ports))
            group.endpoints.append(self._endpoint(pod, service))
        await asyncio.sleep(0)
        annotations = slice_annotations(trigger_time(service, pods))
        await asyncio.sleep(0)
        labels = {**labels_of(service), SERVICE_NAME: key[1], MANAGED_BY: SLICE_CONTROLLER}
        if is_headless(service):
            labels[HEADLESS_LABEL] = ""
        else:
            labels.pop(HEADLESS_LABEL, None)
        plan = make_plan(existing, groups.values(), labels, annotations)
        if plan:
            await asyncio.sleep(0)
            await carry_out(self.client, plan, self.slices, service, key[1])
        return None

    def _endpoint(self, pod: Object, service: Object) -> Object:
        serving, terminating = is_ready(pod), is_deleting(pod)
        publish = bool(service["spec"].get("publishNotReadyAddresses"))
        endpoint: Object = {
            "addresses": [pod_ip(pod)],
            "conditions": {
                "ready": publish or (serving and not terminating),
                "serving": serving,
                "terminating": terminating,
            },
            "targetRef": target_reference(pod),
        }
        if name := host_name(pod, service):
            endpoint["hostname"] = name
        if node_name := pod["spec"].get("nodeName"):
            endpoint["nodeName"] = node_name
            node = self.nodes.get(("", node_name))
            if node is not None and (zone := labels_of(node).get(ZONE_LABEL)):
                endpoint["zone"] = zone
        return endpoint
