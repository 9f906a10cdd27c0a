"""Finds the controllers that publish the names of Ingresses and routes, and the clients that can reach them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from hatchway.exposure.backends import ClusterFacts, audience_of_all, service_ports
from hatchway.exposure.providers import host_audience
from hatchway.exposure.ranges import MACHINE, NOWHERE, AddressSet
from hatchway.exposure.serviceways import balancer_admits, balancer_hosts, node_ports_admit
from hatchway.exposure.snapshot import ObservedPod, balanced_service
from hatchway.exposure.tolerant import mapping, text, texts
from hatchway.kube.api import Object

# The name of a Service inside the cluster, such as `gateway-istio.shop.svc.cluster.local`.
_SERVICE_NAME: Final = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.|$)")
_WEB_PORTS: Final = (80, 443)


@dataclass(frozen=True, slots=True)
class Publisher:
    """The controller that publishes names at some addresses.

    sources: the clients that can reach the controller.
    pods: the controller's pods; () when they are not known (they may be outside the cluster).
    """

    sources: AddressSet
    pods: tuple[ObservedPod, ...] = ()


class Publishers:
    """The Services and pods at whose addresses Ingresses, Gateways and other routes are published."""

    def __init__(self, facts: ClusterFacts) -> None:
        self._facts = facts
        self._by_host: dict[str, list[Object]] = {}
        self._by_cluster_ip: dict[str, Object] = {}
        for service in facts.snapshot.services:
            spec = mapping(service.get("spec"))
            hosts = [*balancer_hosts(service), *texts(spec.get("externalIPs"))]
            for host in hosts if text(spec.get("type")) in ("LoadBalancer", "NodePort") else ():
                self._by_host.setdefault(host.lower(), []).append(service)
            for address in (text(spec.get("clusterIP")), *texts(spec.get("clusterIPs"))):
                if address not in ("", "None"):
                    self._by_cluster_ip[address] = service

    def at(self, hosts: Sequence[str], *, internal: bool, funnel: bool = False) -> Publisher:
        """Return the controller that publishes names at these addresses and host names.

        internal: True when its load balancer is marked as internal. funnel: as in `providers.host_audience`.
        """
        services: list[Object] = []
        pods: list[ObservedPod] = []
        sources: AddressSet = NOWHERE
        for host in hosts:
            named = self._by_host.get(host.lower(), [])
            services += named
            known = [one for one in named if balancer_hosts(one)]
            for service in known:
                sources |= balancer_admits(service, self._facts)
            if known:
                continue
            inside = self._inside(host)
            if inside is not None:
                # Controllers behind a NodePort Service, or a ClusterIP, publish the Service's cluster address.
                services.append(inside)
                sources |= node_ports_admit(inside, self._facts)
            elif self._is_loopback(host):
                pods += self._at_nodes
                sources |= self._nodes_admit
            else:
                sources |= host_audience((host,), internal=internal, funnel=funnel)
        pods += [pod for service in services for pod in self._facts.snapshot.pods_of(service)]
        return Publisher(sources, tuple(pods))

    def of_services(self, services: Iterable[Object]) -> Publisher:
        """Return the controller behind some Services."""
        pods: list[ObservedPod] = []
        sources: AddressSet = NOWHERE
        for service in services:
            pods += self._facts.snapshot.pods_of(service)
            sources |= balancer_admits(service, self._facts) | node_ports_admit(service, self._facts)
        return Publisher(sources, tuple(pods))

    def outside(self, hosts: Iterable[str]) -> list[str]:
        """Return the addresses and host names that exist outside the cluster."""
        return [host for host in hosts if host.lower() in self._by_host or not self._is_inside(host)]

    def node_ports(self, hosts: Sequence[str], port: int) -> list[tuple[str, int]]:
        """Return the (node address, port) pairs that lead to a port of the publishers of some addresses.

        They are listed for addresses that cannot be reached from outside: cluster addresses, and loopback addresses of
        nodes. For an embedded cluster, they are always listed: its load balancers use addresses of this machine, where
        an ordinary user may not open ports below 1024, but the node ports are always open.
        """
        snapshot = self._facts.snapshot
        services = [found for host in hosts if host.lower() not in self._by_host and (found := self._inside(host))]
        if self._is_embedded:
            services += [service for host in hosts for service in self._by_host.get(host.lower(), ())]
            controller = snapshot.ingress_service
            if controller is not None and not {one.lower() for one in balancer_hosts(controller)}.isdisjoint(hosts):
                services.append(controller)
        opened = [one.node_port for service in services for one in service_ports(service) if one.number == port]
        places = [(address, one) for one in opened if one for address in self._facts.node_addresses(None)]
        if any(self._is_loopback(host) for host in hosts):
            places += [(address, port) for address in self._node_addresses]
        return places

    def _is_inside(self, host: str) -> bool:
        return host in self._by_cluster_ip or _SERVICE_NAME.match(host.lower()) is not None

    def _inside(self, host: str) -> Object | None:
        """Return the Service that has a cluster address or a name inside the cluster; None for other hosts."""
        found = self._by_cluster_ip.get(host)
        match = _SERVICE_NAME.match(host.lower()) if found is None else None
        return self._facts.snapshot.services_by_key.get((match[2], match[1])) if match else found

    @cached_property
    def _is_embedded(self) -> bool:
        return any(node.embedded for node in self._facts.snapshot.nodes)

    def _is_loopback(self, host: str) -> bool:
        """Return True for a loopback address of a node on which pods have the ports of the Web (kind, MicroK8s)."""
        if self._is_embedded or host.lower() in self._by_host or not self._at_nodes:
            return False
        audience = host_audience((host,), internal=False)
        return bool(audience) and not (audience - MACHINE)

    @cached_property
    def _at_nodes(self) -> list[ObservedPod]:
        """Return the pods that have port 80 or 443 of their nodes."""
        return [
            pod
            for pods in self._facts.snapshot.pods_by_namespace.values()
            for pod in pods
            if balanced_service(pod) is None
            and any((port.number if pod.host_network else port.host_port) in _WEB_PORTS for port in pod.ports)
        ]

    @cached_property
    def _node_addresses(self) -> list[str]:
        return self._facts.host_addresses(pod.node for pod in self._at_nodes)

    @cached_property
    def _nodes_admit(self) -> AddressSet:
        return audience_of_all(self._node_addresses)
