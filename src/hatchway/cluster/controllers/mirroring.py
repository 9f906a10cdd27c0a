"""Copies user-made Endpoints of Services without a selector into EndpointSlices (`endpointslicemirroring/`)."""

from __future__ import annotations

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import by_service
from hatchway.cluster.controllers.objectfields import annotations_of, controlled_by, is_deleting, labels_of
from hatchway.cluster.controllers.serviceports import TRIGGER_TIME, has_selector
from hatchway.cluster.controllers.slices import (
    EndpointGroup,
    PortKey,
    SlicePlan,
    address_type,
    carry_out,
    make_plan,
    port_key,
)
from hatchway.kube.api import Object
from hatchway.kube.objects import Key
from hatchway.kube.wellknown import ENDPOINT_SLICES, LAST_APPLIED, MANAGED_BY, SERVICE_NAME, SKIP_MIRROR

NAME = "endpointslicemirroring-controller.k8s.io"
LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
# More addresses than this in one subset are not mirrored (mirroring-max-endpoints-per-subset).
MAX_PER_SUBSET = 1000
_NOT_COPIED = frozenset({LAST_APPLIED, TRIGGER_TIME})


class MirroringController(Controller):
    """Keeps, for every Service without a selector, EndpointSlices with the addresses of its Endpoints."""

    name = "endpointslicemirroring-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.services = context.cache("services")
        self.endpoints = context.cache("endpoints")
        self.slices = context.cache(ENDPOINT_SLICES)
        self.services.subscribe(self.enqueue_changed)
        self.endpoints.subscribe(self.enqueue_changed)
        self.slices.subscribe(self._slice_changed)

    def _slice_changed(self, _kind: str, found: Object, _before: Object | None) -> None:
        if labels_of(found).get(MANAGED_BY) == NAME and labels_of(found).get(SERVICE_NAME):
            self.queue.add((found["metadata"]["namespace"], labels_of(found)[SERVICE_NAME]))

    async def reconcile(self, key: Key) -> float | None:
        """Update the EndpointSlices of the Endpoints `key`, or delete them when nothing is to be mirrored."""
        existing = [
            found
            for found in self.slices.index(by_service).get(key)
            if labels_of(found).get(MANAGED_BY) == NAME and not is_deleting(found)
        ]
        service, endpoints = self.services.get(key), self.endpoints.get(key)
        if service is None or endpoints is None or not _to_mirror(service, endpoints):
            if existing:
                owner = endpoints or {"metadata": {"namespace": key[0]}}
                await carry_out(self.client, SlicePlan(delete=existing), self.slices, owner, key[1])
            return None
        labels = {k: v for k, v in labels_of(endpoints).items() if not k.startswith("endpointslice.kubernetes.io/")}
        labels |= {SERVICE_NAME: key[1], MANAGED_BY: NAME}
        annotations = {k: v for k, v in annotations_of(endpoints).items() if k not in _NOT_COPIED}
        # Slices of deleted Endpoints with the same name are deleted, too.
        own = [found for found in existing if controlled_by(found, endpoints)]
        strangers = [found for found in existing if not controlled_by(found, endpoints)]
        for family in ("IPv4", "IPv6"):
            groups = _groups(endpoints, family)
            mine = [found for found in own if found.get("addressType") == family]
            # An address family without addresses has no slices, not even an empty one.
            plan = make_plan(mine, groups.values(), labels, annotations) if groups else SlicePlan(delete=mine)
            if plan:
                await carry_out(self.client, plan, self.slices, endpoints, key[1], family)
        if strangers:
            await carry_out(self.client, SlicePlan(delete=strangers), self.slices, endpoints, key[1])
        return None


def _to_mirror(service: Object, endpoints: Object) -> bool:
    return (
        not has_selector(service)
        and service["spec"].get("type") != "ExternalName"
        and labels_of(endpoints).get(SKIP_MIRROR) != "true"
        and LEADER_ANNOTATION not in annotations_of(endpoints)
        and not is_deleting(endpoints)
    )


def _groups(endpoints: Object, family: str) -> dict[PortKey, EndpointGroup]:
    groups: dict[PortKey, EndpointGroup] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [
            {
                "name": port.get("name", ""),
                "port": port["port"],
                "protocol": port.get("protocol", "TCP"),
                **({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {}),
            }
            for port in subset.get("ports") or ()
        ]
        # The key is computed only once, because there can be thousands of ports and thousands of addresses.
        ports_key = port_key(ports)
        addresses = [(address, True) for address in subset.get("addresses") or ()]
        addresses += [(address, False) for address in subset.get("notReadyAddresses") or ()]
        for address, ready in addresses[:MAX_PER_SUBSET]:
            if address_type([address["ip"]]) == family:
                group = groups.setdefault(ports_key, EndpointGroup(ports))
                group.endpoints.append(_endpoint(address, ready))
    return groups


def _endpoint(address: Object, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint
