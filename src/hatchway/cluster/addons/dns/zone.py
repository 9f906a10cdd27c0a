"""The names of a cluster, kept up to date from watch events. Pure: no sockets, no clocks.

A name is looked up by its labels below the cluster's domain, in lower case, left to right.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from hatchway.kube.api import Object

SCHEMA_VERSION = "1.1.0"
# Seconds that answers may be kept: what a service's address says holds long, what its pods are does not.
SERVICE_TTL, ENDPOINT_TTL, NEGATIVE_TTL = 30, 5, 5
DNS_SERVICE = ("kube-system", "kube-dns")

Type = Literal["A", "AAAA", "SRV", "CNAME", "TXT", "PTR", "NS", "SOA"]
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record. name: relative labels joined by dots, "" for the domain itself; None means the name asked.

    data: an address, a text, an absolute name; (port, target) of an SRV with a relative target.
    """

    type: Type
    data: str | tuple[int, str]
    ttl: int
    name: str | None = None


@dataclass(slots=True)
class Found:
    """What is known of a name. exists is False for NXDOMAIN; no records of the type asked is NODATA.

    extra: addresses of SRV targets, for the additional section.
    """

    exists: bool = False
    records: list[Record] = field(default_factory=list)
    extra: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class _Service:
    ips: tuple[str, ...]
    headless: bool
    external: str
    ports: tuple[_Port, ...]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    name: str
    ips: tuple[str, ...]
    ports: tuple[_Port, ...]


def address_type(ip: str) -> Literal["A", "AAAA"]:
    return "AAAA" if ":" in ip else "A"


class Zone:
    """Everything below the cluster's domain, and the reverse names of its addresses."""

    def __init__(self) -> None:
        self._namespaces: set[str] = set()
        self._services: dict[Place, _Service] = {}
        self._slices: dict[Place, dict[str, tuple[_Endpoint, ...]]] = {}
        self._slice_service: dict[Place, str] = {}
        self._reverse: dict[str, list[str]] | None = None

    # --- what changes ------------------------------------------------------------------------------------------

    def namespace_changed(self, kind: str, obj: Object) -> None:
        name = obj["metadata"]["name"]
        if kind == "DELETED":
            self._namespaces.discard(name)
        else:
            self._namespaces.add(name)

    def service_changed(self, kind: str, obj: Object) -> None:
        place = obj["metadata"]["namespace"], obj["metadata"]["name"]
        self._reverse = None
        if kind == "DELETED":
            self._services.pop(place, None)
            return
        spec = obj["spec"]
        external = spec.get("externalName", "") if spec.get("type") == "ExternalName" else ""
        main = spec.get("clusterIP") or ""
        ips = tuple(ip for ip in spec.get("clusterIPs") or [main] if ip and ip != "None")
        ports = tuple(
            _Port(port.get("name", ""), port.get("protocol", "TCP").lower(), port["port"])
            for port in spec.get("ports") or ()
        )
        self._services[place] = _Service(ips, main == "None", external.rstrip(".").lower(), ports)

    def slice_changed(self, kind: str, obj: Object) -> None:
        metadata = obj["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        self._reverse = None
        former = self._slice_service.pop((namespace, name), None)
        if former is not None:
            slices = self._slices[namespace, former]
            del slices[name]
            if not slices:
                del self._slices[namespace, former]
        service = (metadata.get("labels") or {}).get("kubernetes.io/service-name")
        if kind == "DELETED" or not service or obj.get("addressType") == "FQDN":
            return
        ports = tuple(
            _Port(port.get("name") or "", (port.get("protocol") or "TCP").lower(), port["port"])
            for port in obj.get("ports") or ()
            if port.get("port")
        )
        endpoints = tuple(
            _Endpoint(_endpoint_name(endpoint), tuple(endpoint["addresses"]), ports)
            for endpoint in obj.get("endpoints") or ()
            # An unknown condition counts as ready (the type's documentation).
            if (endpoint.get("conditions") or {}).get("ready") is not False
        )
        self._slice_service[namespace, name] = service
        self._slices.setdefault((namespace, service), {})[name] = endpoints

    # --- what is asked -----------------------------------------------------------------------------------------

    def lookup(self, labels: list[str]) -> Found:
        """All records of a name below the domain."""
        match labels:
            case []:
                return Found(True, [Record("NS", "ns.dns", SERVICE_TTL)])
            case ["dns-version"]:
                return Found(True, [Record("TXT", SCHEMA_VERSION, SERVICE_TTL)])
            case ["svc"] | ["pod"] | ["dns"]:
                return Found(True)
            case ["ns", "dns"]:
                dns = self._services.get(DNS_SERVICE)
                return Found(True, _addresses(dns.ips if dns else (), SERVICE_TTL))
            case [namespace, "svc" | "pod"]:
                return Found(namespace in self._namespaces)
            case [ip, namespace, "pod"]:
                return self._pod(ip, namespace)
            case [name, namespace, "svc"]:
                return self._service((namespace, name))
            case [first, name, namespace, "svc"]:
                return self._below_service((namespace, name), first)
            case [port, protocol, name, namespace, "svc"] if port.startswith("_") and protocol.startswith("_"):
                return self._srv((namespace, name), port[1:], protocol[1:])
        return Found()

    def reverse(self, ip: str) -> Found:
        """The names of an address: of the service that has it, else of the headless endpoints that have it."""
        if self._reverse is None:
            self._reverse = self._make_reverse()
        names = self._reverse.get(ip)
        if not names:
            return Found()
        return Found(True, [Record("PTR", name, ENDPOINT_TTL) for name in names])

    def _endpoints(self, place: Place) -> Iterator[_Endpoint]:
        for endpoints in self._slices.get(place, {}).values():
            yield from endpoints

    def _pod(self, dashed: str, namespace: str) -> Found:
        """As CoreDNS with `pods insecure`: any address, in any namespace that exists."""
        if namespace not in self._namespaces:
            return Found()
        text = dashed.replace("-", ".") if dashed.count("-") == 3 and "--" not in dashed else dashed.replace("-", ":")
        try:
            ip = str(ipaddress.ip_address(text))
        except ValueError:
            return Found()
        return Found(True, _addresses([ip], ENDPOINT_TTL))

    def _service(self, place: Place) -> Found:
        service = self._services.get(place)
        if service is None:
            return Found()
        if service.external:
            return Found(True, [Record("CNAME", service.external, SERVICE_TTL)])
        if service.headless:
            ips = dict.fromkeys(ip for endpoint in self._endpoints(place) for ip in endpoint.ips)
            found = Found(True, _addresses(ips, ENDPOINT_TTL))
        else:
            found = Found(True, _addresses(service.ips, SERVICE_TTL))
        srv = self._srv(place, "", "")
        found.records += srv.records
        found.extra = srv.extra
        return found

    def _below_service(self, place: Place, first: str) -> Found:
        service = self._services.get(place)
        if service is None or service.external:
            return Found()
        if first in ("_tcp", "_udp", "_sctp"):
            # Nothing of its own, but names below it (RFC 8020).
            return Found(any(port.protocol == first[1:] for port in service.ports))
        ips = dict.fromkeys(ip for found in self._endpoints(place) if found.name == first for ip in found.ips)
        return Found(bool(ips), _addresses(ips, ENDPOINT_TTL))

    def _srv(self, place: Place, port: str, protocol: str) -> Found:
        """SRV records of a port of a service; of all its ports when `port` is ""."""
        service = self._services.get(place)
        if service is None or service.external:
            return Found()
        name = f"{place[1]}.{place[0]}.svc"

        def wanted(ports: Iterable[_Port]) -> list[_Port]:
            return [p for p in ports if not port or (p.name.lower() == port and p.protocol == protocol)]

        found = Found(bool(wanted(service.ports)))
        if not service.headless:
            found.records = [Record("SRV", (p.number, name), SERVICE_TTL) for p in wanted(service.ports)]
            if found.records:
                found.extra = _addresses(service.ips, SERVICE_TTL, name)
            return found
        for endpoint in self._endpoints(place):
            ports = wanted(endpoint.ports)
            if not ports:
                continue
            target = f"{endpoint.name}.{name}"
            found.exists = True
            found.records += [Record("SRV", (p.number, target), ENDPOINT_TTL) for p in ports]
            found.extra += _addresses(endpoint.ips, ENDPOINT_TTL, target)
        return found

    def _make_reverse(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for (namespace, name), service in self._services.items():
            for ip in service.ips:
                out.setdefault(ip, []).append(f"{name}.{namespace}.svc")
        services = set(out)
        for (namespace, name), service in self._services.items():
            if not service.headless:
                continue
            for endpoint in self._endpoints((namespace, name)):
                for ip in endpoint.ips:
                    if ip not in services:
                        out.setdefault(ip, []).append(f"{endpoint.name}.{name}.{namespace}.svc")
        return out


def _addresses(ips: Iterable[str], ttl: int, name: str | None = None) -> list[Record]:
    return [Record(address_type(ip), ip, ttl, name) for ip in ips]


def _endpoint_name(endpoint: Object) -> str:
    hostname: str = endpoint.get("hostname") or ""
    return hostname.lower() or endpoint["addresses"][0].replace(".", "-").replace(":", "-")
