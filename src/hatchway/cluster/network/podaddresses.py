"""Gives out the addresses of pods."""

from __future__ import annotations

import ipaddress

from hatchway.cluster import plan


class AddressPool:
    """The addresses of one node's pods.

    Addresses are given out in turn, so that a freed address is reused as late as possible.
    """

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self._network = network
        self._first = 2
        self._last = network.num_addresses - 2
        self._next = self._first
        self._taken: set[str] = set()

    def take(self) -> str:
        """Take a free address. Raises OSError when there is none."""
        for _ in range(self._last - self._first + 1):
            address = str(self._network[self._next])
            self._next = self._first if self._next == self._last else self._next + 1
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise OSError(f"no addresses available in range set: {self._network}")

    def give_back(self, address: str) -> None:
        """Make an address free again. Idempotent."""
        self._taken.discard(address)

    def __contains__(self, address: str) -> bool:
        return address in self._taken


class AddressPools:
    """The pools of all nodes of a cluster. Each pool is made when it is first needed."""

    def __init__(self, *, loopback: bool) -> None:
        self._loopback = loopback
        self._pools: dict[int, AddressPool] = {}

    def of(self, node_index: int) -> AddressPool:
        """Return the pool of the node with this index."""
        if node_index not in self._pools:
            self._pools[node_index] = AddressPool(plan.pod_cidr(node_index, loopback=self._loopback))
        return self._pools[node_index]

    def __contains__(self, address: str) -> bool:
        return any(address in pool for pool in self._pools.values())
