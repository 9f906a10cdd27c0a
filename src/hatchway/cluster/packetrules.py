"""The contract between `policies/`, which reads network policies, and `network/packetfilter.py`, which drops packets.

The filter checks packets that are routed between pods and nodes. A pod that policies select is isolated: one chain for
each direction decides which of the pod's connections are allowed. The user of the filter chooses the names of chains
and sets. Chains never change; elements of sets are added and removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Direction = Literal["ingress", "egress"]
# The first and the last value of a range, both included: addresses as numbers, or ports.
Interval = tuple[int, int]
# A set's kind: addresses; pairs of an address and a port; ranges of addresses.
SetKind = Literal["addresses", "sockets", "ranges"]
# An address, an address and a port, or a range.
Element = str | tuple[str, int] | Interval

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}


class AllowRule(NamedTuple):
    """Allows connections that meet all of its conditions.

    peers: a set of addresses (or of their ranges) that must contain the peer's address; "": every peer.
    protocol: "TCP", "UDP" or "SCTP"; "": every protocol, ICMP included.
    ports: the destination's port; None: every port.
    sockets: a set of sockets that must contain the destination's address and port; "": no such condition.
    """

    peers: str
    protocol: str = ""
    ports: Interval | None = None
    sockets: str = ""


@dataclass(frozen=True, slots=True)
class MakeSet:
    """Makes a set with elements. Ranges are sorted, neither overlap nor touch, and never change."""

    name: str
    kind: SetKind
    elements: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Changes the elements of a set of addresses or sockets."""

    name: str
    kind: SetKind
    added: tuple[Element, ...] = ()
    removed: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True)
class DropSet:
    """Deletes a set that no chain uses."""

    name: str


@dataclass(frozen=True, slots=True)
class MakeRules:
    """Makes a chain that allows a connection if one of its rules does. The calling chain decides about the others."""

    name: str
    direction: Direction
    rules: tuple[AllowRule, ...]


@dataclass(frozen=True, slots=True)
class MakeGroup:
    """Makes a chain that calls other chains, and refuses connections that none of these allows."""

    name: str
    chains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropChain:
    """Deletes a chain that nothing uses."""

    name: str


@dataclass(frozen=True, slots=True)
class Isolate:
    """Lets a group of chains decide about the connections of a pod in one direction.

    group: the name of the group; None when the pod is not isolated. before: the group that decided until now, or None.
    """

    direction: Direction
    ip: str
    group: str | None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class BlockApi:
    """Refuses a pod's connections to the API server's service address, or allows them again."""

    ip: str
    blocked: bool


# A change of the filter, for `PacketFilter.apply`.
FilterChange = MakeSet | ChangeSet | DropSet | MakeRules | MakeGroup | DropChain | Isolate | BlockApi


class PacketFilter(Protocol):
    """Drops packets in the cluster's network. The methods block: call them in a thread, one at a time."""

    def reset(self) -> None:
        """Remove all chains and sets, and refuse all new connections of pods until `release`. Raises OSError."""
        ...

    def apply(self, changes: list[FilterChange]) -> None:
        """Apply changes in their order. Raises OSError when only some changes may have been applied: call `reset`."""
        ...

    def release(self) -> None:
        """Allow connections of pods that are not isolated, after `reset` has refused them."""
        ...


class PodAdmission(Protocol):
    """Makes a pod wait, before its first process starts, until its network policies are in effect."""

    async def admit(self, uid: str, ip: str) -> None:
        """Wait until the policies that select the pod with this uid are in effect for its address.

        Raises OSError when that fails; then the pod must not start.
        """
        ...

    def forget(self, uid: str) -> None:
        """Record that the pod has no address any more. Idempotent."""
        ...


class ConnectionPolicy(Protocol):
    """Decides whether policies allow connections that sockets relay. The packet filter does not see their packets."""

    def allows(self, client: str, address: str, port: int, protocol: str, *, via: str = "") -> bool:
        """Return True when a client may connect to an address.

        client: the client's address. address, port: the destination, behind the Service. via: the address that the
        client has used.
        """
        ...
