"""Finds the ways in that pods open at nodes' addresses: by host ports, or by use of the node's network. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from hatchway.exposure import mending
from hatchway.exposure.backends import ClusterFacts, PortVerdict, audience_of_all, policies_of, reach_of, shield_of
from hatchway.exposure.findings import MOST_LOCATIONS, Exposure, Issue, Location
from hatchway.exposure.ranges import EVERYWHERE, MACHINE, AddressSet, worst
from hatchway.exposure.serviceways import open_issues, unknown_nodes
from hatchway.exposure.snapshot import DeclaredPort, ObservedPod, balanced_service

# Pods in this namespace with one of these priority classes are parts of the node, which need the node's network.
_SYSTEM_NAMESPACE: Final = "kube-system"
_SYSTEM_CLASSES: Final = ("system-node-critical", "system-cluster-critical")
_KINDS: Final = {
    "deploy": "Deployment",
    "sts": "StatefulSet",
    "ds": "DaemonSet",
    "rs": "ReplicaSet",
    "rc": "ReplicationController",
    "job": "Job",
    "pod": "Pod",
}


def node_ways(facts: ClusterFacts) -> list[Exposure]:
    """Return a way in for each workload that has host ports, and for each that uses the node's network."""
    ports: dict[tuple[str, str], list[ObservedPod]] = defaultdict(list)
    hosts: dict[tuple[str, str], list[ObservedPod]] = defaultdict(list)
    for pods in facts.snapshot.pods_by_namespace.values():
        for pod in pods:
            if balanced_service(pod) in facts.snapshot.services_by_key:
                # This pod is the load balancer of a Service (K3s), and applies the Service's source ranges. So the
                # Service is listed as the way in.
                continue
            if pod.host_network:
                hosts[pod.namespace, pod.workload].append(pod)
            elif any(port.host_port for port in pod.ports):
                ports[pod.namespace, pod.workload].append(pod)
    found = [_host_port_way(facts, *workload, pods) for workload, pods in ports.items()]
    return found + [_host_network_way(facts, *workload, pods) for workload, pods in hosts.items()]


def _host_port_way(facts: ClusterFacts, namespace: str, workload: str, pods: Sequence[ObservedPod]) -> Exposure:
    verdicts: list[PortVerdict] = []
    audiences: list[AddressSet] = []
    locations: list[Location] = []
    opened: list[DeclaredPort] = []
    names = [pod.node for pod in pods]
    for port in {
        (port.host_port, port.protocol): port for pod in pods for port in pod.ports if port.host_port
    }.values():
        only = port.host_ip if port.host_ip not in ("", "0.0.0.0", "::") else ""
        addresses = facts.host_port_addresses(only, names)
        audience = _audience(facts, addresses, known=bool(only))
        verdict = facts.judge(pods, audience, port.host_port, port.number, port.protocol)
        verdicts.append(verdict)
        audiences.append(audience)
        locations += [Location(address, port.host_port, port.protocol) for address in addresses]
        if verdict.admitted.reach == "internet":
            opened.append(port)
    place = (opened or [port for pod in pods for port in pod.ports if port.host_port])[0].place
    listed = ", ".join(str(port.host_port) for port in opened[:4])
    issues = open_issues(
        verdicts,
        "open-host-port",
        f"anyone on the Internet can connect to port {listed} of its nodes' public addresses",
        mending.without_host_port(namespace, workload, place),
        policies=facts.knows_policies(namespace),
    )
    return _exposure(facts, namespace, workload, "hostPort", pods, verdicts, audiences, locations, issues)


def _host_network_way(facts: ClusterFacts, namespace: str, workload: str, pods: Sequence[ObservedPod]) -> Exposure:
    addresses = facts.host_addresses([pod.node for pod in pods])
    audience = _audience(facts, addresses)
    declared = {(port.number, port.protocol) for pod in pods for port in pod.ports if port.number}
    verdicts = [facts.judge(pods, audience, number, number, protocol) for number, protocol in sorted(declared)]
    part_of_node = namespace == _SYSTEM_NAMESPACE and all(pod.priority_class in _SYSTEM_CLASSES for pod in pods)
    mend = mending.without_host_network(namespace, workload)
    issues: list[Issue] = []
    note = (
        "part of the node"
        if part_of_node
        else ""
        if declared
        else "it declares no ports; all ports on which it listens are open"
    )
    if not part_of_node and verdicts:
        listed = ", ".join(str(number) for number, _ in sorted(declared)[:4])
        issues = open_issues(
            verdicts,
            "open-host-network",
            f"it is in its node's network, where no NetworkPolicy applies: port {listed} is open to the Internet",
            mend,
            policies=False,
        )
    elif not part_of_node and audience.reach == "internet":
        text = "it is in the network of nodes with public addresses: its ports are open to the Internet"
        issues = [Issue("open-host-network", "low", text, mend)]
    locations = [Location(address, *port) for address in addresses for port in sorted(declared)]
    return _exposure(facts, namespace, workload, "hostNetwork", pods, verdicts, [audience], locations, issues, note)


def _audience(facts: ClusterFacts, addresses: Sequence[str], *, known: bool = False) -> AddressSet:
    """Return the clients that can reach nodes' addresses. known: True when the pod itself names the address."""
    if not known and not facts.knows_nodes:
        return EVERYWHERE
    return audience_of_all(addresses)


def _exposure(
    facts: ClusterFacts,
    namespace: str,
    workload: str,
    way: str,
    pods: Sequence[ObservedPod],
    verdicts: Sequence[PortVerdict],
    audiences: Sequence[AddressSet],
    locations: Sequence[Location],
    issues: list[Issue],
    note: str = "",
) -> Exposure:
    kind, _, name = workload.partition("/")
    audience = worst(one.reach for one in audiences)
    reach = reach_of(verdicts) if verdicts else audience
    if not facts.knows_nodes and reach == "internet":
        # The nodes' addresses could not be read, and were assumed to be public.
        reach = audience = "unknown"
        issues = [unknown_nodes("its port on its nodes")] if issues else []
    only_machine = bool(audiences) and all(not (one - MACHINE) for one in audiences)
    return Exposure(
        kind=_KINDS[kind],
        namespace=namespace,
        name=name,
        way=way,
        locations=tuple(locations[:MOST_LOCATIONS]),
        reach=reach,
        audience=audience,
        shield=shield_of(verdicts),
        policies=policies_of(verdicts),
        workloads=(workload,),
        pods=len(pods),
        issues=tuple(issues),
        accepted=next((pod.accepted for pod in pods if pod.accepted), ""),
        note=note or ("only on the node itself" if only_machine else ""),
    )
