"""Keeps EndpointSlices: for each Service with a selector, its pods with their conditions (staging `endpointslice/`)."""

from __future__ import annotations

from hatchway.cluster.controllers.base import Context, Controller
from hatchway.cluster.controllers.objects import (
    Key,
    is_deleting,
    is_finished,
    is_ready,
    labels_of,
)
from hatchway.cluster.controllers.serviceports import (
    HEADLESS_LABEL,
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
from hatchway.cluster.controllers.slices import (
    MANAGED_BY,
    RESOURCE,
    SERVICE_NAME,
    Group,
    carry_out,
    make_plan,
    port_key,
    slice_annotations,
)
from hatchway.kube.api import Object

NAME = "endpointslice-controller.k8s.io"
ZONE_LABEL = "topology.kubernetes.io/zone"


class EndpointSliceController(Controller):
    name = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = context.cache("services")
        self.pods = context.cache("pods")
        self.nodes = context.cache("nodes")
        self.slices = context.cache(RESOURCE)
        self.services.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._pod_changed)
        self.slices.subscribe(self._slice_changed)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        for key in services_of(self.services, pod, None if kind == "DELETED" else before):
            self.queue.add(key)

    def _slice_changed(self, _kind: str, found: Object, before: Object | None) -> None:
        for seen in (found, before):
            if seen is not None and labels_of(seen).get(MANAGED_BY) == NAME and labels_of(seen).get(SERVICE_NAME):
                self.queue.add((seen["metadata"]["namespace"], labels_of(seen)[SERVICE_NAME]))

    async def reconcile(self, key: Key) -> float | None:
        service = self.services.get(key)
        if service is None or is_deleting(service):
            # The garbage collector removes what a vanished service owned.
            return None
        existing = [
            found
            for found in self.slices.in_namespace(key[0])
            if labels_of(found).get(SERVICE_NAME) == key[1]
            and labels_of(found).get(MANAGED_BY) == NAME
            and not is_deleting(found)
        ]
        if not has_selector(service):
            return None
        pods = selected(service, self.pods)
        groups: dict[str, Group] = {}
        for pod in pods:
            if not pod_ip(pod) or is_finished(pod):
                continue
            ports = endpoint_ports(pod, service)
            group = groups.setdefault(port_key(ports), Group(ports))
            group.endpoints.append(self._endpoint(pod, service))
        labels = {**labels_of(service), SERVICE_NAME: key[1], MANAGED_BY: NAME}
        if is_headless(service):
            labels[HEADLESS_LABEL] = ""
        else:
            labels.pop(HEADLESS_LABEL, None)
        plan = make_plan(existing, groups.values(), labels, slice_annotations(trigger_time(service, pods)))
        if plan:
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
