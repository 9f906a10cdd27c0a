"""The address of a target inside the cluster, for routes that dial from inside. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from hatchway.kube.api import Object
from hatchway.kube.ports import Port, ports
from hatchway.numerals import is_digits
from hatchway.route.podport import find_port


@dataclass(frozen=True, slots=True)
class DialAddress:
    """An address and a port inside the cluster. host: an IP address, or a DNS name (an ExternalName service's)."""

    host: str
    port: int


class NoAddress(Exception):
    """A target has no address to dial. The message says why, without a full stop.

    missing: True when the target does not have the port.
    """

    def __init__(self, why: str, *, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


def service_address(service: Object, port: str, slices: Iterable[Object], protocol: str = "TCP") -> DialAddress:
    """Return the address to dial for a Service: its ClusterIP, its external name, or an endpoint when it is headless.

    Args:
        service: the object.
        port: the port's name or number; "" for the first port of the protocol.
        slices: the Service's EndpointSlices, for a headless one.
        protocol: TCP or UDP.

    Raises:
        NoAddress: the Service has no such address.
    """
    spec = service.get("spec") or {}
    declared = ports(service)
    found = find_port(declared, port, protocol)
    if spec.get("type") == "ExternalName":
        if found is None and not is_digits(port):
            raise NoAddress(f'it has no port "{port}"' if port else "it declares no port", missing=True)
        return _checked(spec.get("externalName") or "", found.number if found is not None else int(port))
    if found is None:
        raise NoAddress(f'it has no port "{port}"' if port else f"it declares no {protocol} port", missing=True)
    if found.protocol != protocol:
        raise NoAddress(f"this port is {found.protocol}, not {protocol}", missing=True)
    ip = spec.get("clusterIP") or ""
    if ip and ip != "None":
        return DialAddress(ip, found.number)
    return _endpoint(found, slices)


def _endpoint(port: Port, slices: Iterable[Object]) -> DialAddress:
    for piece in slices:
        of_port = [one for one in piece.get("ports") or () if (one.get("name") or "") == port.name]
        number = next((one["port"] for one in of_port if one.get("port")), None)
        for entry in piece.get("endpoints") or ():
            # A missing condition means ready (discovery/v1 EndpointConditions).
            if number is not None and (entry.get("conditions") or {}).get("ready", True) is not False:
                for address in entry.get("addresses") or ():
                    return _checked(address, int(number))
    raise NoAddress("it is headless, and none of its endpoints is ready")


def _checked(host: str, port: int) -> DialAddress:
    """Return an address that a Service's author has chosen, unless it may lead to the node or pod that dials it.

    Programs that listen on a node's loopback address trust all local clients, and the author of a Service may have no
    right to use the node.

    Raises:
        NoAddress: the address is empty, unspecified, loopback, multicast, or link-local (a cloud's metadata service).
    """
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        own = not name or name == "localhost" or name.endswith(".localhost")
    else:
        address = getattr(address, "ipv4_mapped", None) or address
        own = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    if own:
        raise NoAddress(f'it leads to "{host}", which would be the node or the pod that dials it')
    return DialAddress(host, port)


def pod_address(pod: Object, port: str, protocol: str = "TCP") -> DialAddress:
    """Return the address to dial for a pod. port: a number, a declared name, or "" for the first port of the protocol.

    Raises:
        NoAddress: the pod has no address yet, or no such port.
    """
    ip = (pod.get("status") or {}).get("podIP")
    if not ip:
        raise NoAddress("it has no address yet")
    return DialAddress(ip, _number(ports(pod), port, protocol))


def node_address(node: Object, port: str) -> DialAddress:
    """Return the address to dial for a node: the internal one. port: a number; "" for the kubelet's port.

    Raises:
        NoAddress: the node has no address, or the port is not a number.
    """
    status = node.get("status") or {}
    known = {one.get("type"): one.get("address") for one in status.get("addresses") or ()}
    host = known.get("InternalIP") or known.get("Hostname")
    if not host:
        raise NoAddress("it has no address")
    kubelet = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
    return DialAddress(host, int(kubelet) if not port and kubelet else _number([], port, "TCP"))


def _number(declared: list[Port], port: str, protocol: str) -> int:
    if is_digits(port):
        if 0 < int(port) < 65536:
            return int(port)
        raise NoAddress(f"{port} is no port", missing=True)
    found = find_port(declared, port, protocol)
    if found is None or found.protocol != protocol:
        raise NoAddress(
            f'it has no {protocol} port "{port}"' if port else f"it declares no {protocol} port", missing=True
        )
    return found.number
