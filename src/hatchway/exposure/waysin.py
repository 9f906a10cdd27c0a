"""Lists the ways to a Service, for the user who has just exposed it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.exposure.exposing import balancer_addresses
from hatchway.exposure.snapshot import ObservedNode
from hatchway.kube.api import Object
from hatchway.kube.portlinks import links
from hatchway.kube.ports import Port, is_http, ports, scheme_of
from hatchway.target import DEFAULT_PORTS

# The maximum number of nodes whose addresses are listed.
_NODES = 3


def ways_in(service: Object, nodes: Iterable[Object] | None, domain: str = "cluster.local") -> list[tuple[str, str]]:
    """Return (name of the way, how to use it) for each way to a Service.

    Args:
        nodes: the cluster's nodes; None when they may not be listed.
        domain: the cluster's DNS domain.
    """
    metadata, spec = service["metadata"], service.get("spec") or {}
    name, namespace = metadata["name"], metadata["namespace"]
    declared = ports(service)
    numbers = ", ".join(f"{port.number}{'' if port.protocol == 'TCP' else '/' + port.protocol}" for port in declared)
    found = [("in the cluster", f"{name}.{namespace}.svc.{domain}" + (f", port {numbers}" if numbers else ""))]
    urls = [url for link in links("services", service) if (url := link.url())]
    if urls:
        found.append(("from here", f"{urls[0]} while `hatchway proxy` runs"))
    if any(port.protocol == "TCP" for port in declared):
        found.append(("from here" if not urls else "", f"`hatchway forward {name} -n {namespace}`: a local port"))
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        found += _node_ports(spec, declared, nodes)
    if spec.get("type") == "LoadBalancer":
        addresses = balancer_addresses(service)
        found += [
            ("LoadBalancer", _location(address, port, port.number)) for address in addresses for port in declared
        ] or [("LoadBalancer", f"no address yet; `kubectl get service {name} -n {namespace} --watch` waits for it")]
    found += [
        ("external IP", _location(str(address), port, port.number))
        for address in spec.get("externalIPs") or ()
        for port in declared
    ]
    return found


def _node_ports(spec: Object, declared: list[Port], nodes: Iterable[Object] | None) -> list[tuple[str, str]]:
    addresses = node_addresses(nodes or ())
    found = []
    for port, entry in zip(declared, spec.get("ports") or (), strict=True):
        number = entry.get("nodePort")
        if not number:
            continue
        shown = [_location(address, port, number) for address in addresses[:_NODES]]
        if len(addresses) > _NODES:
            shown.append(f"{len(addresses) - _NODES} more")
        found.append(("NodePort", ", ".join(shown) or f"port {number} of every node"))
    return found


def node_addresses(nodes: Iterable[Object]) -> list[str]:
    """Return an address of each node: its external address, or else its internal one.

    For an embedded cluster, return the address of this machine at which the cluster opens node ports.
    """
    seen = [ObservedNode.of(node) for node in nodes]
    if any(node.embedded for node in seen):
        return ["127.0.0.1"]
    return [address for node in seen for address in [*node.external, *node.internal][:1]]


def _location(address: str, port: Port, number: int) -> str:
    """Return a URL for a port that may speak HTTP, else ADDRESS:PORT."""
    host = f"[{address}]" if ":" in address else address
    if port.protocol != "TCP":
        return f"{host}:{number}/{port.protocol}"
    if is_http(port) is False:
        return f"{host}:{number}"
    scheme = scheme_of(port) or "http"
    return f"{scheme}://{host}/" if DEFAULT_PORTS[scheme] == number else f"{scheme}://{host}:{number}/"
