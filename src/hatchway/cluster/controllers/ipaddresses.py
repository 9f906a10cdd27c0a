"""Keeps an IPAddress for each cluster address of a Service.

The rules come from `pkg/registry/core/service/ipallocator/controller/repairip.go`. In Kubernetes, the API server
creates the IPAddress before the Service that uses it. In Hatchway, this controller creates the IPAddress after the
Service, and the Service alone decides that the address is in use.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import key_of
from hatchway.kube.wellknown import (
    ADDRESS_ALLOCATOR,
    ADDRESS_FAMILY,
    ADDRESS_MANAGED_BY,
    IP_ADDRESSES,
    is_service_address,
)

__all__ = ["IPAddressController"]


class IPAddressController(Controller):
    """Creates, repairs and deletes the IPAddresses of Services. Keys are addresses."""

    name = "ipallocator-repair-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.services = context.cache("services")
        self.addresses = context.cache(IP_ADDRESSES)
        self.events = context.recorder(self.name)
        self.services.subscribe(self._service_changed)
        self.addresses.subscribe(self._address_changed)

    def _service_changed(self, kind: str, service: Object, before: Object | None) -> None:
        current = set() if kind == "DELETED" else set(_addresses_of(service))
        former = set(_addresses_of(before or service)) if kind != "ADDED" else set()
        for address in current ^ former:
            self.queue.add(address)

    def _address_changed(self, kind: str, address: Object, before: Object | None) -> None:
        self.queue.add(address["metadata"]["name"])

    async def reconcile(self, key: str) -> float | None:
        """Create, repair or delete the IPAddress of the address `key`, so that it matches the Service that has it."""
        holders = self.services.index(_addresses_of).get(key)
        found = self.addresses.get(("", key))
        if not holders:
            if found is not None and _is_managed(found):
                if not is_service_address(found):
                    text = f"IPAddress {key} appears to have been modified, not referencing a Service: cleaning up"
                    self.events.event(found, "Warning", "IPAddressNotAllocated", text)
                await self._delete(key)
            return None
        wanted = _wanted(key, min(holders, key=lambda one: (one["metadata"].get("creationTimestamp", ""), key_of(one))))
        if found is not None:
            if is_service_address(found) and found["spec"] == wanted["spec"]:
                return None
            for service in holders:
                namespace, name = key_of(service)
                text = f"the ClusterIP [IPv4]: {key} for Service {namespace}/{name} has a wrong reference; repairing"
                self.events.event(service, "Warning", "ClusterIPNotAllocated", text)
            await self._delete(key)
        try:
            await self.client.create(IP_ADDRESSES, wanted)
        except ApiError as error:
            # The cache is not up to date: another client has created or deleted the IPAddress. The change queues `key`.
            if error.reason != "AlreadyExists":
                raise
        return None

    async def _delete(self, name: str) -> None:
        try:
            await self.client.delete(IP_ADDRESSES, name)
        except ApiError as error:
            if error.code != 404:
                raise


def _addresses_of(service: Object) -> Iterable[str]:
    """Return the cluster addresses of a Service. They are the keys of an index."""
    spec = service.get("spec") or {}
    found = spec.get("clusterIPs") or (spec.get("clusterIP"),)
    return [one for one in found if one and one != "None"] if spec.get("type") != "ExternalName" else []


def _is_managed(address: Object) -> bool:
    return (address["metadata"].get("labels") or {}).get(ADDRESS_MANAGED_BY) == ADDRESS_ALLOCATOR


def _wanted(address: str, service: Object) -> Object:
    namespace, name = key_of(service)
    family = "IPv6" if ":" in address else "IPv4"
    labels = {ADDRESS_FAMILY: family, ADDRESS_MANAGED_BY: ADDRESS_ALLOCATOR}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": address, "labels": labels},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    }
