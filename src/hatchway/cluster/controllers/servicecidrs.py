"""Updates the finalizers and conditions of ServiceCIDRs (`pkg/controller/servicecidrs`).

A range that the private network cannot route is not ready, and Services get no addresses of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from hatchway.cluster import plan
from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import is_deleting, parse_time, set_condition
from hatchway.kube.api import Object
from hatchway.kube.objects import Key
from hatchway.kube.wellknown import DEFAULT_SERVICE_CIDR, IP_ADDRESSES, SERVICE_CIDRS, is_service_address

__all__ = ["ServiceCIDRController"]

_FINALIZER = "networking.k8s.io/service-cidr-finalizer"
# A deleted range without addresses is kept for this many seconds, because a Service that is being created may use it
# (`deletionGracePeriod`).
_GRACE = 10.0
_READY = "Kubernetes Service CIDR is ready"
_DEFAULT_READY = "Kubernetes default Service CIDR is ready"
_IN_USE = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServiceCIDRController(Controller):
    """Writes which ranges are ready, and removes the finalizer of a deleted range when no address needs the range."""

    name = "service-cidr-controller"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.ranges = context.cache(SERVICE_CIDRS)
        self.addresses = context.cache(IP_ADDRESSES)
        self.ranges.subscribe(self._range_changed)
        self.addresses.subscribe(self._address_changed)

    def _range_changed(self, kind: str, obj: Object, before: Object | None) -> None:
        self.enqueue(obj)
        if kind != "MODIFIED":
            # This change can decide whether another, deleted range with the same addresses is still needed.
            self._enqueue_deleted()

    def _address_changed(self, kind: str, address: Object, before: Object | None) -> None:
        if kind != "MODIFIED" and is_service_address(address):
            self._enqueue_deleted()

    def _enqueue_deleted(self) -> None:
        for one in self.ranges:
            if is_deleting(one):
                self.enqueue(one)

    async def reconcile(self, key: Key) -> float | None:
        """Update condition and finalizer of the range `key`. A deleted range has the finalizer while it is needed."""
        obj = self.ranges.get(key)
        if obj is None:
            return None
        finalizers = obj["metadata"].get("finalizers") or []
        if not is_deleting(obj):
            if _FINALIZER not in finalizers:
                obj = await self._set_finalizers(obj, [*finalizers, _FINALIZER])
            await self._set_ready(obj, *_readiness(obj))
            return None
        if self._is_needed(obj):
            await self._set_ready(obj, "False", "Terminating", _IN_USE)
            return None
        since = parse_time(obj["metadata"]["deletionTimestamp"])
        left = _GRACE - (self.context.now() - since).total_seconds() if since is not None else 0.0
        if left > 0:
            return left
        if _FINALIZER in finalizers:
            await self._set_finalizers(obj, [one for one in finalizers if one != _FINALIZER])
        return None

    def _is_needed(self, obj: Object) -> bool:
        """Return True when the address of a Service is in this range and in no other one (`canDeleteCIDR`)."""
        others = [network for one in self.ranges if one is not obj for network in _networks(one)]
        own = [one for one in _networks(obj) if not any(_contains(other, one) for other in others)]
        if not own:
            return False
        for address in self.addresses:
            if is_service_address(address):
                ip = ipaddress.ip_address(address["metadata"]["name"])
                if any(ip in one for one in own) and not any(ip in other for other in others):
                    return True
        return False

    async def _set_finalizers(self, obj: Object, finalizers: list[str]) -> Object:
        metadata = {**obj["metadata"], "finalizers": finalizers}
        return await self.client.update(SERVICE_CIDRS, {**obj, "metadata": metadata})

    async def _set_ready(self, obj: Object, status: str, reason: str, message: str) -> None:
        former = (obj.get("status") or {}).get("conditions") or []
        condition = {"type": "Ready", "status": status, "reason": reason, "message": message}
        conditions = set_condition(former, condition, self.context.now())
        if conditions != former:
            wanted = {**obj, "status": {**(obj.get("status") or {}), "conditions": conditions}}
            await self.client.update(SERVICE_CIDRS, wanted, subresource="status")


def _readiness(obj: Object) -> tuple[str, str, str]:
    """Return status, reason and message of the condition Ready."""
    cidrs = (obj.get("spec") or {}).get("cidrs") or []
    for cidr in cidrs:
        if problem := plan.why_not_for_services(cidr):
            return "False", "NotRoutable", f"{problem}. Services get no addresses of this ServiceCIDR"
    if obj["metadata"]["name"] != DEFAULT_SERVICE_CIDR:
        return "True", "", _READY
    if cidrs == [str(plan.SERVICE_CIDR)]:
        return "True", "", _DEFAULT_READY
    return "False", "Inconsistent", f"the default ServiceCIDR of this cluster is {plan.SERVICE_CIDR}"


def _networks(obj: Object) -> Iterable[_Network]:
    return [ipaddress.ip_network(text) for text in (obj.get("spec") or {}).get("cidrs") or ()]


def _contains(outer: _Network, inner: _Network) -> bool:
    return outer.version == inner.version and outer.overlaps(inner) and outer.prefixlen <= inner.prefixlen
