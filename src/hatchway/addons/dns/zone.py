"""The names of a cluster, kept up to date from watch events. Pure: no sockets, no clocks.

A name is looked up by its labels below the cluster's domain, in lower case, left to right.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from hatchway.kube.api import Object
from hatchway.kube.objects import endpoint_is_ready
from hatchway.kube.wellknown import SERVICE_NAME

SCHEMA_VERSION = "1.1.0"
# Seconds for which answers may be cached: a service's address seldom changes, its endpoints often do.
SERVICE_TTL, ENDPOINT_TTL, NEGATIVE_TTL = 30, 5, 5
DNS_SERVICE = ("kube-system", "kube-dns")

# The most SRV records in one answer: a message of 64 KiB cannot hold more, at 28 bytes or more each.
MAX_SRV = 2048

Type = Literal["A", "AAAA", "SRV", "CNAME", "TXT", "PTR", "NS", "SOA"]
# (namespace, name) of a Service.
_ServiceKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    """One resource record.

    Attributes:
        type: its type.
        data: an address, a text or an absolute name; for SRV the port and the target, a name in the form of `name`.
        ttl: seconds for which it may be cached.
        name: labels relative to the cluster's domain, joined by dots; "" for the domain itself; None for the name in
            the question.
    """

    type: Type
    data: str | tuple[int, str]
    ttl: int
    name: str | None = None


@dataclass(slots=True)
class ZoneAnswer:
    """The records that the zone has for one name.

    Attributes:
        exists: False for NXDOMAIN. An existing name without records of the requested type is NODATA.
        records: all its records, of every type.
        extra: addresses of SRV targets, for the additional section.
    """

    exists: bool = False
    records: list[ZoneRecord] = field(default_factory=list)
    extra: list[ZoneRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _NamedPort:
    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class _Service:
    ips: tuple[str, ...]
    headless: bool
    external: str
    ports: tuple[_NamedPort, ...]


@dataclass(frozen=True, slots=True)
class _NamedEndpoint:
    name: str
    ips: tuple[str, ...]
    ports: tuple[_NamedPort, ...]


def address_type(ip: str) -> Literal["A", "AAAA"]:
    """Return the type of the record for an address."""
    return "AAAA" if ":" in ip else "A"


class Zone:
    """Everything below the cluster's domain, and the reverse names of its addresses."""

    def __init__(self) -> None:
        self._namespaces: set[str] = set()
        self._services: dict[_ServiceKey, _Service] = {}
        self._slices: dict[_ServiceKey, dict[str, tuple[_NamedEndpoint, ...]]] = {}
        self._slice_service: dict[_ServiceKey, str] = {}
        self._reverse: dict[str, list[str]] | None = None

    # --- changes of objects ------------------------------------------------------------------------------------

    def namespace_changed(self, kind: str, obj: Object) -> None:
        """Apply a watch event of a Namespace. kind: the event's type, ADDED, MODIFIED or DELETED."""
        name = obj["metadata"]["name"]
        if kind == "DELETED":
            self._namespaces.discard(name)
        else:
            self._namespaces.add(name)

    def service_changed(self, kind: str, obj: Object) -> None:
        """Apply a watch event of a Service. kind: as in `namespace_changed`."""
        key = obj["metadata"]["namespace"], obj["metadata"]["name"]
        self._reverse = None
        if kind == "DELETED":
            self._services.pop(key, None)
            return
        spec = obj["spec"]
        external = spec.get("externalName", "") if spec.get("type") == "ExternalName" else ""
        main = spec.get("clusterIP") or ""
        ips = tuple(ip for ip in spec.get("clusterIPs") or [main] if ip and ip != "None")
        ports = tuple(
            _NamedPort(port.get("name", ""), port.get("protocol", "TCP").lower(), port["port"])
            for port in spec.get("ports") or ()
        )
        self._services[key] = _Service(ips, main == "None", external.rstrip(".").lower(), ports)

    def slice_changed(self, kind: str, obj: Object) -> None:
        """Apply a watch event of an EndpointSlice. kind: as in `namespace_changed`."""
        metadata = obj["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        self._reverse = None
        former = self._slice_service.pop((namespace, name), None)
        if former is not None:
            slices = self._slices[namespace, former]
            del slices[name]
            if not slices:
                del self._slices[namespace, former]
        service = (metadata.get("labels") or {}).get(SERVICE_NAME)
        if kind == "DELETED" or not service or obj.get("addressType") == "FQDN":
            return
        ports = tuple(
            _NamedPort(port.get("name") or "", (port.get("protocol") or "TCP").lower(), port["port"])
            for port in obj.get("ports") or ()
            if port.get("port")
        )
        endpoints = tuple(
            _NamedEndpoint(_endpoint_name(endpoint), tuple(endpoint["addresses"]), ports)
            for endpoint in obj.get("endpoints") or ()
            if endpoint_is_ready(endpoint)
        )
        self._slice_service[namespace, name] = service
        self._slices.setdefault((namespace, service), {})[name] = endpoints

    # --- queries -----------------------------------------------------------------------------------------------

    def lookup(self, labels: list[str]) -> ZoneAnswer:
        """Return all records of a name.

        Args:
            labels: the name's labels below the cluster's domain, in lower case, left to right.
        """
        match labels:
            case []:
                return ZoneAnswer(True, [ZoneRecord("NS", "ns.dns", SERVICE_TTL)])
            case ["dns-version"]:
                return ZoneAnswer(True, [ZoneRecord("TXT", SCHEMA_VERSION, SERVICE_TTL)])
            case ["svc"] | ["pod"] | ["dns"]:
                return ZoneAnswer(True)
            case ["ns", "dns"]:
                dns = self._services.get(DNS_SERVICE)
                return ZoneAnswer(True, _addresses(dns.ips if dns else (), SERVICE_TTL))
            case [namespace, "svc" | "pod"]:
                return ZoneAnswer(namespace in self._namespaces)
            case [ip, namespace, "pod"]:
                return self._pod(ip, namespace)
            case [name, namespace, "svc"]:
                return self._service((namespace, name))
            case [first, name, namespace, "svc"]:
                return self._below_service((namespace, name), first)
            case [port, protocol, name, namespace, "svc"] if port.startswith("_") and protocol.startswith("_"):
                return self._srv((namespace, name), port[1:], protocol[1:])
        return ZoneAnswer()

    def reverse(self, ip: str) -> ZoneAnswer:
        """Return the names of the Services with this address; if there are none, of headless Services' endpoints."""
        if self._reverse is None:
            self._reverse = self._make_reverse()
        names = self._reverse.get(ip)
        if not names:
            return ZoneAnswer()
        return ZoneAnswer(True, [ZoneRecord("PTR", name, ENDPOINT_TTL) for name in names])

    def _endpoints(self, key: _ServiceKey) -> Iterator[_NamedEndpoint]:
        for endpoints in self._slices.get(key, {}).values():
            yield from endpoints

    def _pod(self, dashed: str, namespace: str) -> ZoneAnswer:
        """Return the record of a pod's name, without a check that the pod exists (CoreDNS' `pods insecure`)."""
        if namespace not in self._namespaces:
            return ZoneAnswer()
        text = dashed.replace("-", ".") if dashed.count("-") == 3 and "--" not in dashed else dashed.replace("-", ":")
        try:
            ip = str(ipaddress.ip_address(text))
        except ValueError:
            return ZoneAnswer()
        return ZoneAnswer(True, _addresses([ip], ENDPOINT_TTL))

    def _service(self, key: _ServiceKey) -> ZoneAnswer:
        service = self._services.get(key)
        if service is None:
            return ZoneAnswer()
        if service.external:
            return ZoneAnswer(True, [ZoneRecord("CNAME", service.external, SERVICE_TTL)])
        if service.headless:
            ips = dict.fromkeys(ip for endpoint in self._endpoints(key) for ip in endpoint.ips)
            found = ZoneAnswer(True, _addresses(ips, ENDPOINT_TTL))
        else:
            found = ZoneAnswer(True, _addresses(service.ips, SERVICE_TTL))
        srv = self._srv(key, "", "")
        found.records += srv.records
        found.extra = srv.extra
        return found

    def _below_service(self, key: _ServiceKey, first: str) -> ZoneAnswer:
        service = self._services.get(key)
        if service is None or service.external:
            return ZoneAnswer()
        if first in ("_tcp", "_udp", "_sctp"):
            # Such a name has no records, but there may be names below it (RFC 8020).
            return ZoneAnswer(any(port.protocol == first[1:] for port in service.ports))
        ips = dict.fromkeys(ip for found in self._endpoints(key) if found.name == first for ip in found.ips)
        return ZoneAnswer(bool(ips), _addresses(ips, ENDPOINT_TTL))

    def _srv(self, key: _ServiceKey, port: str, protocol: str) -> ZoneAnswer:
        """Return the SRV records of a port of a service; of all its ports when `port` is ""."""
        service = self._services.get(key)
        if service is None or service.external:
            return ZoneAnswer()
        name = f"{key[1]}.{key[0]}.svc"

        def wanted(ports: Iterable[_NamedPort]) -> list[_NamedPort]:
            return [p for p in ports if not port or (p.name.lower() == port and p.protocol == protocol)]

        found = ZoneAnswer(bool(wanted(service.ports)))
        if not service.headless:
            ports = wanted(service.ports)[:MAX_SRV]
            found.records = [ZoneRecord("SRV", (p.number, name), SERVICE_TTL) for p in ports]
            if found.records:
                found.extra = _addresses(service.ips, SERVICE_TTL, name)
            return found
        for endpoint in self._endpoints(key):
            left = MAX_SRV - len(found.records)
            if left <= 0:
                break
            ports = wanted(endpoint.ports)[:left]
            if not ports:
                continue
            target = f"{endpoint.name}.{name}"
            found.exists = True
            found.records += [ZoneRecord("SRV", (p.number, target), ENDPOINT_TTL) for p in ports]
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


def _addresses(ips: Iterable[str], ttl: int, name: str | None = None) -> list[ZoneRecord]:
    return [ZoneRecord(address_type(ip), ip, ttl, name) for ip in ips]


def _endpoint_name(endpoint: Object) -> str:
    hostname: str = endpoint.get("hostname") or ""
    return hostname.lower() or endpoint["addresses"][0].replace(".", "-").replace(":", "-")
