"""Which pod has which address."""

from __future__ import annotations

import ipaddress

from hatchway.cluster import plan


class Pool:
    """The addresses of one node's pods, given out in turn, so that one that was given back rests as long as possible."""

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self._network = network
        self._first = 2
        self._last = network.num_addresses - 2
        self._next = self._first
        self._taken: set[str] = set()

    def take(self) -> str:
        """A free address. Raises OSError when there is none."""
        for _ in range(self._last - self._first + 1):
            address = str(self._network[self._next])
            self._next = self._first if self._next == self._last else self._next + 1
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise OSError(f"no addresses available in range set: {self._network}")

    def give_back(self, address: str) -> None:
        self._taken.discard(address)

    def __contains__(self, address: str) -> bool:
        return address in self._taken


class Pools:
    """The pools of all nodes of a cluster, made when a node is first named."""

    def __init__(self, *, loopback: bool) -> None:
        self._loopback = loopback
        self._pools: dict[int, Pool] = {}

    def of(self, node_index: int) -> Pool:
        if node_index not in self._pools:
            self._pools[node_index] = Pool(plan.pod_cidr(node_index, loopback=self._loopback))
        return self._pools[node_index]

    def __contains__(self, address: str) -> bool:
        return any(address in pool for pool in self._pools.values())
