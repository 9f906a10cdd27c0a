"""Makes the rules of the service proxy, which map addresses and ports to endpoints.

The rules come from kube-proxy (pkg/proxy/serviceport.go, topology.go, iptables/proxier.go). Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final, Literal, NamedTuple

from hatchway.addresses import is_loopback
from hatchway.cluster import plan
from hatchway.cluster.firstuse import deployment_to_start
from hatchway.cluster.services.endpointpools import (
    EndpointAddress,
    EndpointPool,
    ParsedSlice,
    PortEndpoints,
    PortKey,
    PortName,
    is_ipv4,
)
from hatchway.cluster.services.nodeplaces import NodePlaces
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_ready, key_of

_AFFINITY_SECONDS = 10800
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_PROTOCOLS = ("TCP", "UDP")
# Ports of nodes that are reserved for the cluster itself. Services and pods never get them.
_NODES_OWN = (plan.KUBELET_PORT, plan.DEFAULT_API_PORT)

# The prefix of pods' names in keys. (Names of Services cannot begin with it.)
POD: Final = "pod/"

# The scope of a rule that uses only endpoints on the client's node (internalTrafficPolicy: Local).
CLIENTS_NODE: Final = ""

# The kinds of frontend addresses:
# - inside the cluster: a Service's cluster address (cluster), one of its externalIPs (external);
# - on nodes: a node port on a node's address (node), a host port of a pod (pod), a health check's port (health);
# - on this machine: a node port (host), a load balancer's address (balancer).
Place = Literal["cluster", "node", "host", "balancer", "external", "pod", "health"]
# The places that are on this machine, outside the cluster's network.
OUTSIDE: Final = ("host", "balancer")


class Frontend(NamedTuple):
    """An address and port on which the proxy listens.

    protocol: "TCP" or "UDP".
    node_ip: the node's own address if `ip` is an address of the loopback interface, which every node has; else "".
    """

    protocol: str
    ip: str
    port: int
    node_ip: str = ""

    def __str__(self) -> str:
        where = f" on the node {self.node_ip}" if self.node_ip else ""
        return f"{self.ip}:{self.port}{where} ({self.protocol})"


@dataclass(frozen=True, slots=True)
class ServiceRule:
    """The destination of a frontend.

    service: `namespace/name:port`, for logs.
    endpoints: the endpoints that get the connections.
    affinity: seconds for which a client keeps its endpoint; 0 without session affinity.
    key: (namespace, name) of the Service; for the place "pod": of the pod, with the prefix POD before the name.
    place: the kind of the frontend's address.
    scope: None to use all endpoints; CLIENTS_NODE to use only endpoints on the client's node; or a node's name: clients
        outside this node use only its endpoints (externalTrafficPolicy: Local), and clients on it use all endpoints.
    sources: the address ranges of clients that may connect; None for all clients.
    node_port: the node port with the same endpoints; 0 for none.
    starts: the Deployment of a Service that starts on first use; "" for all other Services.
    """

    service: str
    endpoints: PortEndpoints
    affinity: int = 0
    key: Key = ("", "")
    place: Place = "cluster"
    scope: str | None = None
    sources: tuple[IPv4Network, ...] | None = None
    node_port: int = 0
    starts: str = ""


class Size(NamedTuple):
    """The size of rules, which is limited.

    frontends: the number of frontends.
    entries: the number of endpoint addresses, plus the number of references from ports to pools of addresses.
    """

    frontends: int
    entries: int


_NOTHING = Size(0, 0)


@dataclass(frozen=True, slots=True)
class MadeRules:
    """The rules of one Service.

    size: the size of the rules.
    cut: the number of frontends that were left out because there was no room.
    work: the number of addresses and ports that were examined.
    """

    rules: dict[Frontend, ServiceRule]
    size: Size = _NOTHING
    cut: int = 0
    work: int = 0


class RuleMaker:
    """Makes the rules of Services and pods.

    nodes: the cluster's nodes.
    host_ips: addresses of this machine on which node ports are published.
    cluster_ips: True if Services' cluster addresses and external addresses are served.
    """

    def __init__(self, nodes: NodePlaces, host_ips: Sequence[str] = (), *, cluster_ips: bool = True) -> None:
        self._nodes = nodes
        self._host_ips = host_ips
        self._cluster_ips = cluster_ips

    def of_service(self, service: Object, slices: Iterable[ParsedSlice], room: Size) -> MadeRules:
        """Return the rules of a Service: its frontends with endpoints, and its health check.

        Ports without endpoints get no frontends, unless the Service starts on first use.

        slices: the Service's EndpointSlices.
        room: the largest size; rules beyond it are left out.
        """
        spec = service.get("spec") or {}
        served = _Served(slices)
        ports = (spec.get("ports") or ()) if _cluster_ips(spec) else ()
        work = served.addresses + len(ports) * (1 + len(served))
        if served.addresses > room.entries:
            return MadeRules({}, cut=len(ports), work=work)
        out: dict[Frontend, ServiceRule] = {}
        left, cut = Size(room.frontends, room.entries - served.addresses), 0
        for port in ports:
            protocol = port.get("protocol") or "TCP"
            if protocol not in _PROTOCOLS:
                continue
            if left.entries < len(served):
                cut += 1
                continue
            endpoints = served.find((port.get("name") or "", protocol))
            if not endpoints and not (deployment_to_start(service) and protocol == "TCP"):
                continue
            found = dict(self._of_port(service, port, endpoints))
            if left.frontends < len(found):
                cut += len(found)
                continue
            left = Size(left.frontends - len(found), left.entries - len(served))
            for frontend, rule in found.items():
                out.setdefault(frontend, rule)
        health = dict(self._of_health_check(service, served))
        if left.frontends < len(health):
            cut += len(health)
        else:
            left = left._replace(frontends=left.frontends - len(health))
            out |= health
        size = Size(room.frontends - left.frontends, room.entries - left.entries) if out else _NOTHING
        return MadeRules(out, size, cut, work)

    def of_pod(self, pod: Object) -> dict[Frontend, ServiceRule]:
        """Return the frontends of a pod's host ports, on its node's addresses (the CNI plugin portmap).

        A pod that is not ready has no frontends, because its address may belong to another pod after a restart of the
        cluster.
        """
        spec, ip = pod["spec"], (pod.get("status") or {}).get("podIP") or ""
        node_ip = self._nodes.ips.get(spec.get("nodeName") or "")
        if node_ip is None or not is_ipv4(ip) or spec.get("hostNetwork") or not is_ready(pod):
            return {}
        out: dict[Frontend, ServiceRule] = {}
        namespace, name = key_of(pod)
        for container in spec.get("containers") or ():
            for port in container.get("ports") or ():
                protocol = port.get("protocol") or "TCP"
                number = port.get("hostPort")
                if not number or protocol not in _PROTOCOLS or number in _NODES_OWN:
                    continue
                pool = EndpointPool([(EndpointAddress(ip, spec["nodeName"], True),)])
                label = f"{namespace}/{name}:{number}"
                rule = ServiceRule(
                    label, PortEndpoints([(port["containerPort"], pool)]), key=(namespace, f"{POD}{name}"), place="pod"
                )
                for frontend in self._on_node(protocol, port.get("hostIP") or "", number, node_ip):
                    out.setdefault(frontend, rule)
        return out

    def _on_node(self, protocol: str, host_ip: str, port: int, node_ip: str) -> Iterator[Frontend]:
        """Yield the frontends of a host port on a node: for its hostIP, or for all of the node's addresses."""
        everywhere = host_ip in ("", "0.0.0.0", "::")
        if everywhere or host_ip == node_ip:
            yield Frontend(protocol, node_ip, port)
        # Without a private network, nodes have no loopback interface of their own: they use this machine's.
        if self._cluster_ips and everywhere:
            yield Frontend(protocol, plan.HOST_IP, port, node_ip)
        elif self._cluster_ips and host_ip != node_ip and is_ipv4(host_ip) and is_loopback(host_ip):
            yield Frontend(protocol, host_ip, port, node_ip)

    def _of_port(
        self, service: Object, port: Object, endpoints: PortEndpoints
    ) -> Iterator[tuple[Frontend, ServiceRule]]:
        metadata, spec = service["metadata"], service["spec"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        protocol, number, node_port = port.get("protocol") or "TCP", port["port"], port.get("nodePort") or 0
        kind, local = spec.get("type"), spec.get("externalTrafficPolicy") == "Local"
        starts = deployment_to_start(service) if protocol == "TCP" else ""
        has_node_port = bool(node_port) and kind in ("NodePort", "LoadBalancer")

        def rule(place: Place, scope: str | None = None, sources: tuple[IPv4Network, ...] | None = None) -> ServiceRule:
            return ServiceRule(
                f"{namespace}/{name}:{port.get('name') or number}",
                endpoints,
                _affinity(spec),
                (namespace, name),
                place,
                scope,
                sources,
                node_port if has_node_port else 0,
                starts,
            )

        if self._cluster_ips:
            inside = rule("cluster", CLIENTS_NODE if spec.get("internalTrafficPolicy") == "Local" else None)
            for ip in _cluster_ips(spec):
                yield Frontend(protocol, ip, number), inside
            external = rule("external")
            for ip in spec.get("externalIPs") or ():
                if is_ipv4(ip) and not (number in _NODES_OWN and self._nodes.node_of(ip)):
                    yield Frontend(protocol, ip, number), external
        if has_node_port:
            everywhere = rule("node")
            for place in self._nodes.all:
                yield Frontend(protocol, place.ip, node_port), rule("node", place.name) if local else everywhere
            outside = rule("host")
            for ip in self._host_ips:
                yield Frontend(protocol, ip, node_port), outside
        if kind == "LoadBalancer" and not spec.get("loadBalancerClass"):
            balancer = rule("balancer", None, _source_ranges(service))
            for ip in _balancer_ips(service):
                yield Frontend(protocol, ip, number), balancer

    def _of_health_check(self, service: Object, served: _Served) -> Iterator[tuple[Frontend, ServiceRule]]:
        spec, number = service["spec"], service["spec"].get("healthCheckNodePort")
        if not number or spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
            return
        namespace, name = key_of(service)
        endpoints = served.all_addresses()
        for place in self._nodes.all:
            label = f"{namespace}/{name}:health check"
            rule = ServiceRule(label, endpoints, key=(namespace, name), place="health", scope=place.name)
            yield Frontend("TCP", place.ip, number), rule


class _Served:
    """The endpoints of one Service: a pool of addresses for each set of ports. addresses: the number of addresses."""

    def __init__(self, slices: Iterable[ParsedSlice]) -> None:
        groups: dict[PortKey, tuple[dict[PortName, int], list[tuple[EndpointAddress, ...]]]] = {}
        self.addresses = 0
        for found in slices:
            self.addresses += len(found.addresses)
            groups.setdefault(found.key, (found.ports, []))[1].append(found.addresses)
        self._groups = [(ports, EndpointPool(pieces)) for ports, pieces in groups.values()]

    def __len__(self) -> int:
        return len(self._groups)

    def find(self, named: PortName) -> PortEndpoints:
        """Return the endpoints of a port."""
        parts = [(ports[named], pool) for ports, pool in self._groups if named in ports]
        if len(parts) > 1:
            parts.sort()
        return PortEndpoints(parts)

    def all_addresses(self) -> PortEndpoints:
        """Return all addresses, with the port number 0."""
        return PortEndpoints([(0, pool) for _, pool in self._groups])


def _cluster_ips(spec: Object) -> list[str]:
    if spec.get("type") == "ExternalName":
        return []
    found = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return [ip for ip in found if is_ipv4(ip)]


def _balancer_ips(service: Object) -> list[str]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = (one.get("ip") or "" for one in ingress)
    return [ip for ip in found if is_ipv4(ip) and ipaddress.IPv4Address(ip) in plan.BALANCER_CIDR]


def _source_ranges(service: Object) -> tuple[IPv4Network, ...] | None:
    """Return the address ranges of clients that may use a load balancer; None for all."""
    given = service["spec"].get("loadBalancerSourceRanges") or ()
    if not given:
        annotation = (service["metadata"].get("annotations") or {}).get(_SOURCE_RANGES) or ""
        given = [text for text in annotation.split(",") if text.strip()]
    if not given:
        return None
    out = []
    for text in given:
        try:
            out.append(IPv4Network(text.strip(), strict=False))
        except ValueError:
            continue  # an IPv6 range, but no client has an IPv6 address here
    return tuple(out)


def _affinity(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client_ip.get("timeoutSeconds") or _AFFINITY_SECONDS)
