"""An index of the cluster addresses and node ports of Services. With it, an allocation need not read all Services.

The store updates the index with each commit. Writes in progress are not in the index: each allocation checks them one
by one, because there are only few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypeVar
from weakref import WeakKeyDictionary

from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object
from hatchway.kube.objects import Key

_PROTOCOLS = ("TCP", "UDP", "SCTP")
# A protocol and a number.
NodePort = tuple[str | None, int]
_Claim = TypeVar("_Claim")


def addresses_of(service: Object) -> set[str]:
    """Return the cluster addresses of a Service, including the "None" of a headless Service."""
    spec = service["spec"]
    return {address for address in spec.get("clusterIPs") or (spec.get("clusterIP"),) if address}


def node_ports_of(service: Object) -> set[NodePort]:
    """Return the node ports of a Service, including the node port of its health check."""
    spec = service["spec"]
    found = {(port.get("protocol"), port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        found.add(("TCP", spec["healthCheckNodePort"]))
    return found


class ServiceClaims:
    """The addresses and node ports of all Services in one store. `ServiceClaims.of` returns the claims of a store."""

    _all: ClassVar[WeakKeyDictionary[Store, ServiceClaims]] = WeakKeyDictionary()

    def __init__(self, store: Store) -> None:
        self._addresses: dict[str, set[Key]] = {}
        self._node_ports: dict[NodePort, set[Key]] = {}
        for service in store.list("services"):
            self._follow("ADDED", None, service)
        store.subscribe("services", self._follow)

    @classmethod
    def of(cls, store: Store) -> ServiceClaims:
        """Return the claims of a store's Services. The first call for a store creates them."""
        found = cls._all.get(store)
        if found is None:
            found = cls._all[store] = cls(store)
        return found

    def others(self, store: Store, obj: Object) -> OtherClaims:
        """Return the claims of all Services except `obj`, including writes in progress."""
        own = _key(obj)
        pending = {key[1:]: service for key, service in store.pending("services")}
        written = [service for key, service in pending.items() if service is not None and key != own]
        return OtherClaims(self._addresses, self._node_ports, {own, *pending}, written)

    def _follow(self, _type: str, old: Object | None, new: Object | None) -> None:
        """Keep the index up to date (a subscriber of the store)."""
        for service in (old, new):
            if service is None:
                continue
            key = _key(service)
            for address in addresses_of(service):
                _update(self._addresses, address, key, held=service is new)
            for node_port in node_ports_of(service):
                _update(self._node_ports, node_port, key, held=service is new)


class OtherClaims:
    """The cluster addresses and node ports of other Services.

    hidden: the keys of Services whose committed state is ignored. written: the new states of Services with writes in
    progress.
    """

    def __init__(
        self,
        addresses: dict[str, set[Key]],
        node_ports: dict[NodePort, set[Key]],
        hidden: set[Key],
        written: list[Object],
    ) -> None:
        self._addresses = addresses
        self._node_ports = node_ports
        self._hidden = hidden
        self._new_addresses = {address for service in written for address in addresses_of(service)}
        self._new_node_ports = {node_port for service in written for node_port in node_ports_of(service)}

    def has_address(self, address: str) -> bool:
        """Return True when another Service has the address."""
        return address in self._new_addresses or not self._addresses.get(address, _NONE) <= self._hidden

    def has_node_port(self, node_port: NodePort) -> bool:
        """Return True when another Service has the number with this protocol."""
        return node_port in self._new_node_ports or not self._node_ports.get(node_port, _NONE) <= self._hidden

    def has_number(self, number: int) -> bool:
        """Return True when another Service has the number with any protocol."""
        return any(self.has_node_port((protocol, number)) for protocol in _PROTOCOLS)

    def node_port_numbers(self) -> Iterator[int]:
        """Yield the numbers that other Services have with any protocol. A number may come several times."""
        yield from (number for _, number in self._new_node_ports)
        yield from (number for (_, number), keys in self._node_ports.items() if not keys <= self._hidden)


_NONE: frozenset[Key] = frozenset()


def _key(service: Object) -> Key:
    metadata = service["metadata"]
    return metadata.get("namespace") or "", metadata.get("name") or ""


def _update(index: dict[_Claim, set[Key]], claim: _Claim, key: Key, *, held: bool) -> None:
    if held:
        index.setdefault(claim, set()).add(key)
        return
    keys = index.get(claim)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[claim]
