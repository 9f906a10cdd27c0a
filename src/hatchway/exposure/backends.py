"""Finds the pods behind a port, and who may connect to them: shared by all kinds of ways into a cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from hatchway.addresses import is_loopback
from hatchway.exposure.policies import PolicyIndex
from hatchway.exposure.ranges import EVERYWHERE, NOWHERE, AddressSet, Reach, audience_of, worst
from hatchway.exposure.sensitive import SensitiveProgram, sensitive_program
from hatchway.exposure.snapshot import ClusterSnapshot, ObservedNode, ObservedPod, key
from hatchway.exposure.tolerant import mapping, mappings, number, pairs, text
from hatchway.kube.api import Object

# The maximum number of workloads that one line names.
_MOST_WORKLOADS = 8
# The label of objects that cert-manager makes to answer ACME challenges. These use HTTP without TLS (RFC 8555, 8.3).
_CHALLENGE = "acme.cert-manager.io/http01-solver"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service. node_port: 0 for none."""

    number: int
    protocol: str
    target: int | str
    node_port: int
    name: str


def service_ports(service: Object) -> list[ServicePort]:
    """Return the ports of a Service."""
    found = []
    for port in mappings(mapping(service.get("spec")).get("ports")):
        target = port.get("targetPort")
        found.append(
            ServicePort(
                number=number(port.get("port")),
                protocol=text(port.get("protocol")) or "TCP",
                target=text(target) or number(target) or number(port.get("port")),
                node_port=number(port.get("nodePort")),
                name=text(port.get("name")),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class PortVerdict:
    """Who can connect to one port.

    audience: the addresses that could connect without NetworkPolicies.
    admitted: the addresses that can connect with the NetworkPolicies.
    policies: the names of the NetworkPolicies. shielded_pods: how many pods none of the `audience` can reach.
    doubtful: True when all clients may get in: nodes may replace clients' addresses with their own addresses, which
        the policies admit.
    program: the program that usually uses this port, if nobody should reach it from outside; else None.
    """

    port: int
    protocol: str
    audience: AddressSet
    admitted: AddressSet
    policies: tuple[str, ...]
    shielded_pods: int
    doubtful: bool
    program: SensitiveProgram | None

    @property
    def shield(self) -> Literal["none", "partial", "full"]:
        """Return whether NetworkPolicies keep out no, some or all addresses."""
        if not self.audience or self.admitted == self.audience:
            return "none"
        return "partial" if self.admitted else "full"


class ClusterFacts:
    """A snapshot with its indexes."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self.snapshot = snapshot
        self.policies = PolicyIndex(snapshot.policies, snapshot.namespaces)
        self.knows_nodes = snapshot.has_read("nodes")

    def knows_policies(self, namespace: str) -> bool:
        """Return True when the NetworkPolicies of a namespace were read; otherwise there may be more."""
        return self.snapshot.has_read("networkpolicies", namespace)

    @cached_property
    def node_sources(self) -> AddressSet:
        """Return the addresses of all nodes."""
        return AddressSet.parse(address for node in self.snapshot.nodes for address in (*node.internal, *node.external))

    @cached_property
    def nodes_by_name(self) -> dict[str, ObservedNode]:
        """Return the nodes by their names."""
        return {node.name: node for node in self.snapshot.nodes}

    def node_addresses(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the addresses at which node ports are open from outside, public ones first.

        names: the nodes' names; None for all nodes. For nodes of an embedded cluster, the addresses of the machine that
            runs the cluster are returned.
        """
        return self._all_addresses if names is None else self._published(self._nodes(names))

    def node_audience(self, names: Iterable[str] | None = None) -> AddressSet:
        """Return the clients that can reach node ports by the nodes' addresses. names: as in `node_addresses`."""
        if not self.knows_nodes:
            return EVERYWHERE
        return self._all_audience if names is None else audience_of_all(self.node_addresses(names))

    @cached_property
    def _all_addresses(self) -> list[str]:
        return self._published(self.snapshot.nodes)

    @cached_property
    def _all_audience(self) -> AddressSet:
        return audience_of_all(self._all_addresses)

    def _published(self, nodes: Sequence[ObservedNode]) -> list[str]:
        published = self.snapshot.published if any(node.embedded for node in nodes) else ()
        return list(dict.fromkeys([*_addresses(nodes), *published]))

    def host_addresses(self, names: Iterable[str]) -> list[str]:
        """Return the nodes' addresses that exist outside the cluster, public ones first."""
        return _addresses(self._nodes(names))

    def host_port_addresses(self, host_ip: str, names: Iterable[str]) -> list[str]:
        """Return the addresses at which a host port of nodes is open from outside.

        Nodes of an embedded cluster have a network of their own, or loopback addresses of its machine.

        host_ip: the only address with the port; "" for all addresses.
        """
        nodes = self._nodes(names)
        local = [address for node in nodes if node.embedded for address in node.internal if is_loopback(address)]
        if not host_ip:
            return [*_addresses(nodes), *local]
        embedded = bool(nodes) and all(node.embedded for node in nodes)
        return [host_ip] if not embedded or host_ip in local else []

    def owns(self, address: str) -> bool:
        """Return True for an address of a node."""
        return address in self._owned

    @cached_property
    def _owned(self) -> frozenset[str]:
        return frozenset(address for node in self.snapshot.nodes for address in (*node.internal, *node.external))

    def _nodes(self, names: Iterable[str]) -> list[ObservedNode]:
        return [self.nodes_by_name[name] for name in dict.fromkeys(names) if name in self.nodes_by_name]

    def judge(
        self,
        pods: Sequence[ObservedPod],
        audience: AddressSet,
        port: int,
        target: int | str,
        protocol: str,
        *,
        replaces_clients: bool = False,
    ) -> PortVerdict:
        """Return who can connect to a port.

        Args:
            pods: the pods behind the port; without pods, no NetworkPolicy counts.
            audience: the addresses from which connections arrive.
            port: the number of the port to which clients connect. target: the pods' port, by number or name.
            protocol: "TCP", "UDP" or "SCTP".
            replaces_clients: True when pods may see a node's address instead of the client's.
        """
        admitted = NOWHERE if pods else audience
        policies: set[str] = set()
        shielded, doubtful = 0, False
        numbers = {port}
        seen: set[tuple[int, AddressSet]] = set()
        for pod in pods:
            number_of_pod = pod.find_port(target, protocol) or port
            numbers.add(number_of_pod)
            admission = self.policies.admission(pod, number_of_pod, protocol)
            policies.update(admission.policies)
            passed = audience & admission.sources if (number_of_pod, admission.sources) not in seen else NOWHERE
            seen.add((number_of_pod, admission.sources))
            if not (audience & admission.sources):
                shielded += 1
            admitted |= passed
            doubtful = doubtful or (
                replaces_clients and bool(admission.policies) and bool(self.node_sources & admission.sources)
            )
        program = sensitive_program(*sorted(numbers - {port}), port)
        found = (port, protocol, audience, admitted, tuple(sorted(policies)), shielded)
        return PortVerdict(*found, doubtful and admitted.reach not in ("internet",), program)

    def pods_behind(self, service: Object) -> int | None:
        """Return the number of a Service's pods; None when pods could not be read."""
        if not self.snapshot.has_read("pods", key(service)[0]):
            return None
        return len(self.snapshot.pods_of(service))

    def has_nothing_behind(self, service: Object) -> bool:
        """Return True when it is certain that no pod and no other address is behind a Service."""
        if self.snapshot.endpoints.get(key(service)):
            return False
        selects = bool(pairs(mapping(service.get("spec")).get("selector")))
        readable = self.snapshot.has_read("pods" if selects else "endpointslices", key(service)[0])
        return readable and not self.snapshot.pods_of(service)


def is_challenge(obj: Mapping[str, Any]) -> bool:
    """Return True for an object that answers a challenge of ACME (cert-manager); it must be open to the Internet."""
    return pairs(mapping(obj.get("metadata")).get("labels")).get(_CHALLENGE) == "true"


def _addresses(nodes: Sequence[ObservedNode]) -> list[str]:
    outside = [node for node in nodes if not node.embedded]
    external = [address for node in outside for address in node.external]
    return list(dict.fromkeys([*external, *(address for node in outside for address in node.internal)]))


def workloads_of(pods: Iterable[ObservedPod]) -> tuple[str, ...]:
    """Return the names of the pods' workloads; if they are many, some names and the number of the others."""
    found = sorted({pod.workload for pod in pods})
    if len(found) > _MOST_WORKLOADS:
        found[_MOST_WORKLOADS:] = [f"{len(found) - _MOST_WORKLOADS} more"]
    return tuple(found)


def audience_of_all(addresses: Iterable[str]) -> AddressSet:
    """Return the clients that can reach one of these addresses. Host names count as public."""
    found: AddressSet = NOWHERE
    for address in addresses:
        one = audience_of(address)
        found |= EVERYWHERE if one is None else one
    return found


def shield_of(verdicts: Sequence[PortVerdict]) -> Literal["none", "partial", "full"]:
    """Return how NetworkPolicies shield several ports: "full" or "none" if this is true of all, else "partial"."""
    shields = {verdict.shield for verdict in verdicts}
    return next(iter(shields)) if len(shields) == 1 else "partial" if shields else "none"


def policies_of(verdicts: Iterable[PortVerdict]) -> tuple[str, ...]:
    """Return the names of the NetworkPolicies for several ports, sorted."""
    return tuple(sorted({policy for verdict in verdicts for policy in verdict.policies}))


def reach_of(verdicts: Iterable[PortVerdict]) -> Reach:
    """Return who can connect to the most public of several ports."""
    return worst(verdict.admitted.reach for verdict in verdicts)


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """Return an object's annotations."""
    return pairs(mapping(obj.get("metadata")).get("annotations"))
