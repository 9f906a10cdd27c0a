"""Printers of Services, ServiceCIDRs, IPAddresses, Endpoints, EndpointSlices and NetworkPolicies.

From `pkg/printers/internalversion/printers.go`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from hatchway.cluster.api.registry.printers.base import (
    AGE,
    NAME,
    Cells,
    Column,
    Json,
    Printer,
    age_of,
    name_of,
    shown_labels,
)
from hatchway.cluster.api.registry.printers.humanize import NONE
from hatchway.cluster.api.registry.printers.workloads import selector_text

__all__ = ["ENDPOINTS", "ENDPOINT_SLICE", "IP_ADDRESS", "NETWORK_POLICY", "SERVICE", "SERVICE_CIDR"]

_MAX_ENDPOINTS = 3


def _some(items: Iterable[str], count: int) -> str:
    """Return the first three values and the number of the others, as text. count: the number of all values."""
    shown = ",".join(itertools.islice(items, _MAX_ENDPOINTS))
    return f"{shown} + {count - _MAX_ENDPOINTS} more..." if count > _MAX_ENDPOINTS else shown


def _service(obj: Json, now: float) -> Cells:
    spec = obj.get("spec", {})
    ports = []
    for one in spec.get("ports") or ():
        node = f":{one['nodePort']}" if one.get("nodePort") else ""
        ports.append(f"{one.get('port', 0)}{node}/{one.get('protocol', '')}")
    return [
        name_of(obj),
        spec.get("type", ""),
        (spec.get("clusterIPs") or [spec.get("clusterIP") or NONE])[0],
        _external_ip(obj),
        ",".join(ports) or NONE,
        age_of(obj, now),
        shown_labels(spec.get("selector")),
    ]


def _external_ip(service: Json) -> str:
    spec = service.get("spec", {})
    external = list(spec.get("externalIPs") or ())
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or NONE
        case "LoadBalancer":
            ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
            balancers = sorted({one.get("ip") or one.get("hostname") or "" for one in ingress} - {""})
            return ",".join(balancers + external) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return "<unknown>"


def _endpoints(obj: Json, now: float) -> Cells:
    subsets = obj.get("subsets") or ()
    # Only the first combinations of ports and addresses are formatted. The others are only counted: they may be many.
    count = sum(len(one.get("addresses") or ()) * max(1, len(one.get("ports") or ())) for one in subsets)
    shown = itertools.islice((pair for one in subsets for pair in _pairs(one)), _MAX_ENDPOINTS)
    return [name_of(obj), _some(shown, count) or NONE, age_of(obj, now)]


def _pairs(subset: Json) -> Iterator[str]:
    """Yield each combination of an address and a port of a subset of Endpoints."""
    addresses = [one.get("ip", "") for one in subset.get("addresses") or ()]
    ports = subset.get("ports") or ()
    if not ports:
        yield from addresses
    for port in ports:
        yield from (f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}" for ip in addresses)


def _endpoint_slice(obj: Json, now: float) -> Cells:
    ports = ["*" if one.get("port") is None else str(one["port"]) for one in obj.get("ports") or ()]
    addresses = [address for one in obj.get("endpoints") or () for address in one.get("addresses") or ()]
    return [
        name_of(obj),
        obj.get("addressType", ""),
        _some(ports, len(ports)) or "<unset>",
        _some(addresses, len(addresses)) or "<unset>",
        age_of(obj, now),
    ]


def _network_policy(obj: Json, now: float) -> Cells:
    return [name_of(obj), selector_text((obj.get("spec") or {}).get("podSelector")), age_of(obj, now)]


SERVICE = Printer(
    _service,
    NAME,
    Column("Type", description="How the service is exposed"),
    Column("Cluster-IP", description="The address within the cluster"),
    Column("External-IP", description="The addresses outside the cluster"),
    Column("Port(s)", description="The ports, with their node ports"),
    AGE,
    Column("Selector", wide=True, description="The labels of the pods"),
)
ENDPOINTS = Printer(_endpoints, NAME, Column("Endpoints", description="Addresses and ports"), AGE)
ENDPOINT_SLICE = Printer(
    _endpoint_slice,
    NAME,
    Column("AddressType", description="IPv4, IPv6 or FQDN"),
    Column("Ports", description="The ports of each endpoint"),
    Column("Endpoints", description="The endpoints' addresses"),
    AGE,
)
NETWORK_POLICY = Printer(
    _network_policy, NAME, Column("Pod-Selector", description="The pods to which the policy applies"), AGE
)


def _service_cidr(obj: Json, now: float) -> Cells:
    return [name_of(obj), ",".join((obj.get("spec") or {}).get("cidrs") or ()), age_of(obj, now)]


def _ip_address(obj: Json, now: float) -> Cells:
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        return [name_of(obj), NONE]
    resource = ".".join(filter(None, (parent.get("resource"), parent.get("group")))).lower()
    return [name_of(obj), "/".join(filter(None, (resource, parent.get("namespace"), parent.get("name"))))]


SERVICE_CIDR = Printer(
    _service_cidr,
    NAME,
    Column("CIDRs", description="The ranges from which Services get their addresses"),
    AGE,
)
IP_ADDRESS = Printer(_ip_address, NAME, Column("ParentRef", description="The object that has the address"))
