"""What the service proxy has to do, as values: which address and port leads to which endpoints.

The rules are kube-proxy's (pkg/proxy/serviceport.go, topology.go): ready endpoints, or serving ones that terminate
when there is no ready one. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hatchway.kube.api import Object

SERVICE_NAME_LABEL = "kubernetes.io/service-name"

_AFFINITY_SECONDS = 10800


class Endpoint(NamedTuple):
    ip: str
    port: int


class Frontend(NamedTuple):
    """An address that the proxy listens on. protocol: "TCP" or "UDP"."""

    protocol: str
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a frontend leads. service: `namespace/name:port`, for logs. endpoints: at least one.
    affinity: for how many seconds a client's address stays with its endpoint; 0 without session affinity."""

    service: str
    endpoints: tuple[Endpoint, ...]
    affinity: int = 0


def rules(services: Iterable[Object], slices: Iterable[Object], node_ips: Sequence[str]) -> dict[Frontend, Rule]:
    """All frontends that have endpoints. When two services claim one frontend, the older one has it."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for found in slices:
        metadata = found["metadata"]
        name = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
        if name and found.get("addressType", "IPv4") == "IPv4":
            by_service.setdefault((metadata.get("namespace", ""), name), []).append(found)
    out: dict[Frontend, Rule] = {}
    for service in sorted(services, key=_age):
        metadata, spec = service["metadata"], service.get("spec") or {}
        cluster_ips = _cluster_ips(spec)
        if not cluster_ips:
            continue
        own = by_service.get((metadata.get("namespace", ""), metadata["name"]), [])
        for port in spec.get("ports") or ():
            protocol = port.get("protocol") or "TCP"
            endpoints = _endpoints(own, port.get("name") or "", protocol)
            if not endpoints or protocol not in ("TCP", "UDP"):
                continue
            label = f"{metadata.get('namespace', '')}/{metadata['name']}:{port.get('name') or port['port']}"
            rule = Rule(label, endpoints, _affinity(spec))
            frontends = [Frontend(protocol, ip, port["port"]) for ip in cluster_ips]
            if port.get("nodePort") and spec.get("type") in ("NodePort", "LoadBalancer"):
                frontends += [Frontend(protocol, ip, port["nodePort"]) for ip in node_ips]
            for frontend in frontends:
                out.setdefault(frontend, rule)
    return out


def _age(service: Object) -> tuple[str, str, str]:
    metadata = service["metadata"]
    return metadata.get("creationTimestamp") or "", metadata.get("namespace", ""), metadata["name"]


def _cluster_ips(spec: Object) -> list[str]:
    if spec.get("type") == "ExternalName":
        return []
    found = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return [ip for ip in found if _is_ipv4(ip)]


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _affinity(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client_ip.get("timeoutSeconds") or _AFFINITY_SECONDS)


def _endpoints(slices: Iterable[Object], port_name: str, protocol: str) -> tuple[Endpoint, ...]:
    ready: set[Endpoint] = set()
    terminating: set[Endpoint] = set()
    for found in slices:
        for port in found.get("ports") or ():
            if (port.get("name") or "") != port_name or (port.get("protocol") or "TCP") != protocol:
                continue
            if not port.get("port"):
                continue
            for endpoint in found.get("endpoints") or ():
                conditions = endpoint.get("conditions") or {}
                # Kubernetes: an unknown readiness counts as ready (discovery/v1, EndpointConditions).
                is_ready = conditions.get("ready") is not False
                serves = conditions.get("serving") if conditions.get("serving") is not None else is_ready
                addresses = {Endpoint(ip, port["port"]) for ip in endpoint.get("addresses") or () if _is_ipv4(ip)}
                if is_ready:
                    ready |= addresses
                elif serves and conditions.get("terminating"):
                    terminating |= addresses
    return tuple(sorted(ready or terminating))
