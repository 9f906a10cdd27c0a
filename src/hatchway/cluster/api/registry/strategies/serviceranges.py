"""The ranges from which Services get cluster addresses: the ServiceCIDRs in the store.

From `pkg/registry/core/service/ipallocator/cidrallocator.go`.
"""

from __future__ import annotations

import ipaddress
from typing import ClassVar
from weakref import WeakKeyDictionary

from hatchway.cluster import plan
from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object
from hatchway.kube.wellknown import DEFAULT_SERVICE_CIDR, IP_ADDRESSES, SERVICE_CIDRS, is_service_address

__all__ = ["ServiceRanges", "is_reserved"]

_Network = ipaddress.IPv4Network


class ServiceRanges:
    """The IPv4 ranges of one store's ServiceCIDRs. `ServiceRanges.of` returns the ranges of a store."""

    _all: ClassVar[WeakKeyDictionary[Store, ServiceRanges]] = WeakKeyDictionary()

    def __init__(self, store: Store) -> None:
        # The ranges of each ready ServiceCIDR, by name. The default ServiceCIDR is ready until it is deleted.
        self._ready: dict[str, list[_Network]] = {DEFAULT_SERVICE_CIDR: [plan.SERVICE_CIDR]}
        for obj in store.list(SERVICE_CIDRS):
            self._follow("ADDED", None, obj)
        store.subscribe(SERVICE_CIDRS, self._follow)

    @classmethod
    def of(cls, store: Store) -> ServiceRanges:
        """Return the ranges of a store's ServiceCIDRs. The first call for a store creates them."""
        found = cls._all.get(store)
        if found is None:
            found = cls._all[store] = cls(store)
        return found

    def ready(self) -> list[_Network]:
        """Return the ranges from which addresses may be allocated, the default range first."""
        return list(dict.fromkeys(network for networks in self._ready.values() for network in networks))

    def _follow(self, _type: str, old: Object | None, new: Object | None) -> None:
        """Keep the ranges up to date (a subscriber of the store)."""
        obj = new if new is not None else old
        assert obj is not None
        name = obj["metadata"]["name"]
        if new is not None and _is_ready(new):
            self._ready[name] = [_Network(text) for text in (new.get("spec") or {}).get("cidrs") or () if "." in text]
        elif name == DEFAULT_SERVICE_CIDR:
            self._ready[name] = [plan.SERVICE_CIDR] if new is None else []
        else:
            self._ready.pop(name, None)


def _is_ready(obj: Object) -> bool:
    metadata = obj["metadata"]
    if metadata.get("deletionTimestamp"):
        return False
    conditions = (obj.get("status") or {}).get("conditions") or ()
    if metadata["name"] == DEFAULT_SERVICE_CIDR:
        # The default range is used from the start, before a controller has written its status.
        return (obj.get("spec") or {}).get("cidrs") == [str(plan.SERVICE_CIDR)]
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def is_reserved(store: Store, address: str) -> bool:
    """Return True if the IPAddress for an address refers to an object that is not a Service.

    The index of Services (`serviceclaims.py`) already has the addresses of Services.
    """
    found = store.latest(IP_ADDRESSES, "", address)
    return found is not None and not is_service_address(found)
