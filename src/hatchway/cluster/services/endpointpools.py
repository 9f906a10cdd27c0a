"""The endpoints of a Service, stored once for all of its ports.

A Service may have hundreds of ports and thousands of endpoints. Its ports differ only in their numbers, so they share
pools of addresses. A pair of address and port number is made only when a connection needs it. Pure.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hatchway.kube.api import Object
from hatchway.kube.objects import endpoint_is_ready

# The name and the protocol of a port.
PortName = tuple[str, str]
# The name, the protocol and the number of each port of a slice.
PortKey = frozenset[tuple[PortName, int]]

# The maximum number of endpoints that are tried for one client.
_MOST_TRIED = 64


class ServiceEndpoint(NamedTuple):
    """The address and port of one endpoint."""

    ip: str
    port: int


class EndpointAddress(NamedTuple):
    """An address that accepts connections.

    node: the endpoint's node; "" when it is not known.
    ready: False for an endpoint that is terminating but still serving.
    """

    ip: str
    node: str
    ready: bool


class ParsedSlice(NamedTuple):
    """The parts of an EndpointSlice that the proxy needs.

    ports: the number of each port.
    key: the same ports as a hashable value, for fast comparisons.
    addresses: the sorted addresses.
    """

    ports: dict[PortName, int]
    key: PortKey
    addresses: tuple[EndpointAddress, ...]


def parse_slice(found: Object, like: ParsedSlice | None = None) -> ParsedSlice:
    """Parse an EndpointSlice. like: another slice; to save memory, equal ports are one shared object in both slices."""
    ports: dict[PortName, int] = {
        (port.get("name") or "", port.get("protocol") or "TCP"): int(port["port"])
        for port in found.get("ports") or ()
        if port.get("port")
    }
    key: PortKey = frozenset(ports.items())
    if like is not None and like.key == key:
        ports, key = like.ports, like.key
    return ParsedSlice(ports, key, tuple(sorted(set(_addresses(found)))))


def _addresses(found: Object) -> Iterator[EndpointAddress]:
    for endpoint in found.get("endpoints") or ():
        conditions, ready = endpoint.get("conditions") or {}, endpoint_is_ready(endpoint)
        serves = conditions.get("serving") if conditions.get("serving") is not None else ready
        if not ready and not (serves and conditions.get("terminating")):
            continue
        node = endpoint.get("nodeName") or ""
        for ip in endpoint.get("addresses") or ():
            if is_ipv4(ip):
                yield EndpointAddress(ip, node, ready)


def is_ipv4(text: str) -> bool:
    """Return True for an IPv4 address in dotted decimal notation."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


_Lists = tuple[tuple[str, ...], tuple[str, ...]]
_NONE: _Lists = ((), ())


class EndpointPool:
    """Addresses that serve the same ports. slices: the addresses of each EndpointSlice."""

    __slots__ = ("_all", "_by_node", "_slices")

    def __init__(self, slices: Iterable[tuple[EndpointAddress, ...]]) -> None:
        self._slices = tuple(sorted(slices))
        self._all: _Lists | None = None
        self._by_node: dict[str, _Lists] | None = None

    def addresses(self, node: str | None) -> _Lists:
        """Return (ready addresses, terminating but still serving addresses). node: a node's name; None for all."""
        if node is None:
            if self._all is None:
                self._all = _lists(address for addresses in self._slices for address in addresses)
            return self._all
        if self._by_node is None:
            nodes: dict[str, list[EndpointAddress]] = {}
            for addresses in self._slices:
                for address in addresses:
                    nodes.setdefault(address.node, []).append(address)
            self._by_node = {name: _lists(found) for name, found in nodes.items()}
        return self._by_node.get(node, _NONE)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, EndpointPool) and self._slices == other._slices)

    def __lt__(self, other: EndpointPool) -> bool:
        return self._slices < other._slices

    def __hash__(self) -> int:
        return hash(self._slices)


def _lists(addresses: Iterable[EndpointAddress]) -> _Lists:
    ready: dict[str, None] = {}
    ending: dict[str, None] = {}
    for ip, _, is_ready in addresses:
        (ready if is_ready else ending)[ip] = None
    return tuple(ready), tuple(ip for ip in ending if ip not in ready)


# (port number, addresses that get connections at this port) for each port number.
Usable = tuple[tuple[int, tuple[str, ...]], ...]


class PortEndpoints:
    """The endpoints of one port of a Service.

    Only ready endpoints get connections. When none is ready, connections go to terminating endpoints that still serve
    (pkg/proxy/topology.go).

    parts: (number, pool) for each pool of addresses: the port's number at these addresses.
    """

    __slots__ = ("_members", "_parts", "_usable")

    def __init__(self, parts: Iterable[tuple[int, EndpointPool]]) -> None:
        self._parts = tuple(parts)
        self._usable: dict[str | None, Usable] = {}
        self._members: dict[str | None, list[tuple[int, frozenset[str]]]] = {}

    @classmethod
    def of(cls, *endpoints: ServiceEndpoint) -> PortEndpoints:
        """Make the endpoints of a port from ready endpoints whose nodes are unknown."""
        return cls((port, EndpointPool([(EndpointAddress(ip, "", True),)])) for ip, port in endpoints)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, PortEndpoints) and self._parts == other._parts)

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        return f"PortEndpoints{self.all()}"

    def __bool__(self) -> bool:
        return bool(self.usable())

    def usable(self, node: str | None = None) -> Usable:
        """Return the endpoints that get connections. node: only endpoints on this node; None for all."""
        found = self._usable.get(node)
        if found is None:
            pools = [(number, pool.addresses(node)) for number, pool in self._parts]
            served = [(number, ready) for number, (ready, _) in pools if ready]
            served = served or [(number, ending) for number, (_, ending) in pools if ending]
            found = self._usable[node] = tuple(served)
        return found

    def ready(self, node: str | None = None) -> int:
        """Return the number of ready endpoints. node: as in `usable`."""
        return sum(len(pool.addresses(node)[0]) for _, pool in self._parts)

    def all(self, node: str | None = None) -> tuple[ServiceEndpoint, ...]:
        """Return the endpoints that get connections, sorted, each once. node: as in `usable`."""
        return tuple(sorted({ServiceEndpoint(ip, number) for number, ips in self.usable(node) for ip in ips}))

    def contains(self, endpoint: ServiceEndpoint, node: str | None = None) -> bool:
        """Return True for an endpoint that gets connections. node: as in `usable`."""
        members = self._members.get(node)
        if members is None:
            members = self._members[node] = [(number, frozenset(ips)) for number, ips in self.usable(node)]
        return any(number == endpoint.port and endpoint.ip in ips for number, ips in members)

    def choose(self, node: str | None = None) -> ServiceEndpoint | None:
        """Return a random endpoint that gets connections; None if there is none. This takes constant time."""
        usable = self.usable(node)
        if len(usable) == 1:
            number, ips = usable[0]
            return ServiceEndpoint(ips[int(random.random() * len(ips))], number)
        count = sum(len(ips) for _, ips in usable)
        return _take(usable, int(random.random() * count)) if count else None

    def in_random_order(self, node: str | None = None) -> Iterator[ServiceEndpoint]:
        """Yield endpoints that get connections, each once, at most `_MOST_TRIED`."""
        usable = self.usable(node)
        count = sum(len(ips) for _, ips in usable)
        seen: set[ServiceEndpoint] = set()
        for index in random.sample(range(count), min(count, _MOST_TRIED)):
            endpoint = _take(usable, index)
            if endpoint not in seen:
                seen.add(endpoint)
                yield endpoint


def _take(usable: Usable, index: int) -> ServiceEndpoint:
    for number, ips in usable:
        if index < len(ips):
            return ServiceEndpoint(ips[index], number)
        index -= len(ips)
    raise IndexError(index)
