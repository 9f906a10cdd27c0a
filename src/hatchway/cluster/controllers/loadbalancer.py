"""Gives Services of type LoadBalancer an address of this machine (`cloud-provider/controllers/service/controller.go`).

The addresses are loopback addresses of `plan.BALANCER_CIDR`; the service proxy serves them. The address of a Service is
stored only in its status, so it stays the same when the cluster is restarted.
"""

from __future__ import annotations

import ipaddress
import zlib

from hatchway.cluster import plan
from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import is_deleting
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
# Seconds until the next attempt for a Service that cannot get the address that it requests.
_RETRY_SECONDS = 5.0


class LoadBalancerController(Controller):
    """Assigns addresses to Services of type LoadBalancer that have no loadBalancerClass."""

    name = "service-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.services = context.cache("services")
        self.events = context.recorder(self.name)
        # Assigned and reserved addresses: address → Service, and Service → address.
        self._holders: dict[str, Key] = {}
        self._held: dict[Key, str] = {}
        # The last reported problem of each Service that cannot get the address that it requests.
        self._refused: dict[Key, str] = {}
        # The index of the next address to try. Clusters on one machine begin at different addresses.
        self._next = (zlib.crc32(context.config.ca_certificate.encode()) & 0xFF) * 256
        self.services.subscribe(self._service_changed)

    def _service_changed(self, kind: str, service: Object, _before: Object | None) -> None:
        key = key_of(service)
        address = "" if kind == "DELETED" or service["spec"].get("loadBalancerClass") else _address(service)
        if address and self._holders.get(address, key) == key:
            self._reserve(key, address)
        elif kind == "DELETED" or not _wants_balancer(service):
            self._release(key)
        if kind == "DELETED" or _wants_balancer(service) or _has_finalizer(service):
            self.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        """Assign an address to the Service `key`, or release it. Return the seconds until the next attempt, or None."""
        service = self.services.get(key)
        if service is None:
            self._release(key)
            return None
        if service["spec"].get("type") == "LoadBalancer" and service["spec"].get("loadBalancerClass"):
            # Another controller is responsible for this Service.
            return None
        if is_deleting(service) or not _wants_balancer(service):
            await self._clean_up(key, service)
            return None
        address = self._choose(key, service)
        if not address:
            return _RETRY_SECONDS
        service = await self._add_finalizer(service)
        ingress = [{"ip": address, "ipMode": "Proxy"}]
        status = service.get("status") or {}
        if (status.get("loadBalancer") or {}).get("ingress") != ingress:
            self.events.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
            await self._write_status(service, {"ingress": ingress})
            self.events.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        return None

    def _choose(self, key: Key, service: Object) -> str:
        """Reserve an address for a Service, and return it; "" when the Service cannot get the address it requests."""
        wanted = service["spec"].get("loadBalancerIP") or ""
        address = self._held.get(key) or ""
        if wanted and wanted != address:
            problem = self._problem(key, wanted)
            if problem:
                if self._refused.get(key) != problem:
                    self._refused[key] = problem
                    text = f"Error syncing load balancer: failed to ensure load balancer: {problem}"
                    self.events.event(service, "Warning", "SyncLoadBalancerFailed", text)
                return ""
            address = wanted
        self._refused.pop(key, None)
        address = address or self._find_free()
        self._reserve(key, address)
        return address

    def _problem(self, key: Key, wanted: str) -> str:
        """Return why a Service cannot get the address `wanted`, which it requests; "" when it can."""
        network = plan.BALANCER_CIDR
        try:
            found = ipaddress.IPv4Address(wanted)
        except ValueError:
            found = None
        if found is None or found not in network:
            return f"loadBalancerIP {wanted} is not in {network}, where this cluster's load balancers are"
        if found in (network.network_address, network.broadcast_address):
            return f"loadBalancerIP {wanted} is the first or the last address of {network}"
        holder = self._holders.get(wanted)
        return f"loadBalancerIP {wanted} belongs to {'/'.join(holder)}" if holder not in (None, key) else ""

    def _find_free(self) -> str:
        """Return an address that no Service has. Raises OSError when all addresses are in use."""
        network = plan.BALANCER_CIDR
        size = network.num_addresses - 2
        for _ in range(size):
            address = str(network[1 + self._next % size])
            if address not in self._holders:
                return address
            self._next += 1
        raise OSError(f"all addresses of {network} are taken")

    def _reserve(self, key: Key, address: str) -> None:
        self._release(key)
        self._holders[address] = key
        self._held[key] = address

    def _release(self, key: Key) -> None:
        address = self._held.pop(key, None)
        if address is not None:
            del self._holders[address]
        self._refused.pop(key, None)

    async def _clean_up(self, key: Key, service: Object) -> None:
        if not _has_finalizer(service):
            return
        self.events.event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        if not is_deleting(service) and (service.get("status") or {}).get("loadBalancer"):
            service = await self._write_status(service, {})
        self._release(key)
        finalizers = [name for name in service["metadata"].get("finalizers") or () if name != FINALIZER]
        metadata = {**service["metadata"], "finalizers": finalizers}
        written = await self.client.update("services", {**service, "metadata": metadata})
        self.events.event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
        if not is_deleting(service):
            await self.services.wait_for_write(written)

    async def _add_finalizer(self, service: Object) -> Object:
        if _has_finalizer(service):
            return service
        finalizers = [*(service["metadata"].get("finalizers") or ()), FINALIZER]
        metadata = {**service["metadata"], "finalizers": finalizers}
        written = await self.client.update("services", {**service, "metadata": metadata})
        await self.services.wait_for_write(written)
        return written

    async def _write_status(self, service: Object, balancer: Object) -> Object:
        status = {**(service.get("status") or {}), "loadBalancer": balancer}
        written = await self.client.update("services", {**service, "status": status}, subresource="status")
        await self.services.wait_for_write(written)
        return written


def _wants_balancer(service: Object) -> bool:
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def _has_finalizer(service: Object) -> bool:
    return FINALIZER in (service["metadata"].get("finalizers") or ())


def _address(service: Object) -> str:
    """Return the address of `plan.BALANCER_CIDR` in a Service's status; "" without one."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for one in ingress:
        try:
            if ipaddress.IPv4Address(one.get("ip") or "") in plan.BALANCER_CIDR:
                return str(one["ip"])
        except ValueError:
            continue  # The value is not an address: a user may have written anything into the status.
    return ""
