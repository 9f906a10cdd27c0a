"""Recognizes an application's own addresses in its answers, and returns the door's addresses for them.

An application may write its own address in different ways: its name or address in the cluster; its pod's name;
`localhost` or `0.0.0.0` with the port on which it listens; or the Host of the request with that port in place of the
door's port (nginx does this when it adds a slash). All of these are changed to the door's address. An address with
another port of the target is changed to the host name of that port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from itertools import islice
from typing import Final

from hatchway.kube.api import Object
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.resolve import ResolvedTarget
from hatchway.kube.wellknown import ENDPOINT_SLICES, SERVICE_NAME
from hatchway.numerals import is_digits
from hatchway.target import Target

LOOPBACK: Final = (b"localhost", b"127.0.0.1", b"0.0.0.0", b"[::1]", b"[::]")
# The maximum number of endpoints of one service whose addresses are remembered.
_MAX_ENDPOINTS: Final = 64
# The maximum number of names of pods that are searched for in pages.
_MAX_POD_SPELLINGS: Final = 24
_URL = re.compile(rb"(?:(?i:(https?|wss?)):)?//([^/?#\\@]*)(?=[/?#]|\Z)")
_AUTHORITY = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(?::([0-9]*))?")
_DEFAULT_PORTS: Final = {b"https": "443", b"wss": "443"}


@dataclass(frozen=True, slots=True)
class AddressMatch:
    """The meaning of an address of the target.

    rest: path, query and fragment.
    other: the target with the port of the address, if that is another port of the target; else None.
    """

    rest: bytes
    other: Target | None = None


@dataclass(frozen=True, slots=True)
class PortSpellings:
    """For each port number of a target (in digits), the spelling of that port in a host name.

    own: the spelling of the target's own port.
    pods: spellings by the port numbers on which the pods listen.
    service: spellings by the service's port numbers.
    nodes: spellings by node ports.
    """

    own: str
    pods: Mapping[str, str]
    service: Mapping[str, str]
    nodes: Mapping[str, str]

    def spelling(self, number: str, *, of_service: bool) -> str | None:
        """Return the spelling of the port with this number; None when there is no such port.

        of_service: True when the address names the service. The service's port numbers then take precedence over port
            numbers of its pods.
        """
        first, second = (self.service, self.pods) if of_service else (self.pods, self.service)
        return next((ports[number] for ports in (first, second, self.nodes) if number in ports), None)

    def numbers(self) -> list[str]:
        """Return all numbers of the target's own port."""
        every = (*self.pods.items(), *self.service.items(), *self.nodes.items())
        return list(dict.fromkeys(number for number, spelled in every if spelled == self.own))


class TargetAddresses:
    """The addresses that mean one target."""

    def __init__(
        self,
        target: Target,
        *,
        number: str,
        ports: PortSpellings,
        service: Iterable[str] = (),
        pods: Iterable[str] = (),
        outer: Iterable[bytes] = (),
    ) -> None:
        """Collect the addresses.

        Args:
            target: the target as it was requested.
            number: the port on which it listens, in digits; "" when unknown.
            ports: all ports that it has.
            service: hosts that mean the service, without ports.
            pods: hosts that mean its pods, without ports.
            outer: host names at the door that mean it, in lower case; applications may append their own port.
        """
        self._target = target
        self._number = number
        self._ports = ports
        own = [target.name]
        self._service_start = b""
        if target.kind == "services":
            own += [f"{target.name}.{target.namespace}", f"{target.name}.{target.namespace}.svc"]
            # In a host name, a pod's name may precede this text, and any cluster domain may follow this text.
            self._service_start = f"{target.name}.{target.namespace}.svc.".encode()
        self._service = frozenset(map(_host, (*own, *service)))
        self._pods = frozenset(map(_host, pods))
        self._outer = frozenset(outer)
        self._cluster_names = [*own, self._service_start.decode() + "cluster.local"] if self._service_start else own

    def find(self, url: bytes, *, sent: bytes = b"") -> AddressMatch | None:
        """Return the meaning of an absolute URL; None when the URL does not mean the target.

        sent: the Host that the application was sent.
        """
        match = _URL.match(url)
        if match is None or not match[2]:
            return None
        authority = match[2].lower()
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None:
            return None
        host, written_port = parts[1].removesuffix(b"."), (parts[2] or b"").decode()
        rest = url[match.end() :]
        rest = rest if rest[:1] == b"/" else b"/" + rest
        number = written_port or _DEFAULT_PORTS.get((match[1] or b"").lower(), "80")
        of_service = host in self._service or self._is_below_service(host)
        spelled = self._ports.spelling(number, of_service=of_service)
        if host in LOOPBACK:
            if number != self._number and (spelled is None or host not in (b"0.0.0.0", b"[::]")):
                return None
        elif not (of_service or host in self._pods or host in self._outer or authority == sent.lower()):
            return None
        # If an `http://` URL has no port, the application has probably removed its own port, so the URL means that port
        # of the target. An `https://` URL without a port means the target's port 443, if there is one.
        stripped = not written_port and number == "80"
        if spelled is None or spelled == self._ports.own or authority == sent.lower() or stripped:
            return AddressMatch(rest)
        return AddressMatch(rest, replace(self._target, port=spelled, scheme=""))

    def _is_below_service(self, host: bytes) -> bool:
        start = self._service_start
        return bool(start) and (host.startswith(start) or b"." + start in host)

    def spellings(self, outer: Iterable[bytes]) -> list[bytes]:
        """Return hosts, with ports if needed, that can only mean this target when they occur in a page.

        outer: host names at the door that mean it.
        """
        numbers = self._ports.numbers() or ([self._number] if self._number else [])
        inside = [_host(name) for name in (*self._cluster_names, *sorted(name.decode() for name in self._service))]
        found = [*dict.fromkeys(inside), *(host + b":" + number.encode() for host in inside for number in numbers)]
        for host in (*sorted(self._pods)[:_MAX_POD_SPELLINGS], *outer):
            found += [host + b":" + number.encode() for number in numbers]
        if self._number:
            found += [host + b":" + self._number.encode() for host in LOOPBACK]
        return list(dict.fromkeys(found))


def _host(name: str) -> bytes:
    """Return a name or an address in the form of a URL's host."""
    try:
        address = ip_address(name)
    except ValueError:
        return name.lower().encode()
    return f"[{address.compressed}]".encode() if isinstance(address, IPv6Address) else str(address).encode()


async def find_addresses(
    target: Target, resolved: ResolvedTarget, lookup: ObjectLookup, outer: Iterable[bytes]
) -> TargetAddresses:
    """Return the addresses of a target from its object and its endpoints.

    Args:
        target: the target as it was requested.
        resolved: the target with its port.
        lookup: where the objects are read.
        outer: as for `TargetAddresses`.

    Raises:
        ApiError: a request to the API server has failed.
    """
    meant, number = resolved.target.port, resolved.listen_port
    if target.kind == "nodes":
        return TargetAddresses(target, number=number, ports=PortSpellings(meant, {}, {}, {}), outer=outer)
    found = (await lookup.get(target.kind, target.namespace, target.name)).object
    if found is None:
        own = {number: meant} if number else {}
        return TargetAddresses(target, number=number, ports=PortSpellings(meant, own, {}, {}), outer=outer)
    if target.kind == "pods":
        ports = {str(port["containerPort"]): str(port["containerPort"]) for port in _container_ports(found)}
        own_port = number or meant
        return TargetAddresses(
            target,
            number=number,
            ports=PortSpellings(own_port, {**ports, own_port: own_port}, {}, {}),
            pods=_pod_hosts(found),
            outer=outer,
        )
    slices = await lookup.list_readable(ENDPOINT_SLICES, target.namespace, f"{SERVICE_NAME}={target.name}")
    return _of_service(target, resolved, found, slices, outer)


def _of_service(
    target: Target, resolved: ResolvedTarget, service: Object, slices: list[Object], outer: Iterable[bytes]
) -> TargetAddresses:
    spec = service.get("spec") or {}
    listening = {
        port.get("name") or "": str(port["port"])
        for piece in slices
        for port in piece.get("ports") or ()
        if isinstance(port, dict) and port.get("port")
    }
    own = resolved.target.port
    pods: dict[str, str] = {}
    declared: dict[str, str] = {}
    nodes: dict[str, str] = {}
    for port in spec.get("ports") or ():
        name, number = port.get("name") or "", str(port["port"])
        if port.get("protocol") not in (None, "TCP"):
            continue
        spelled = own if own in (name, number) or (not own and number == resolved.service_port) else name or number
        declared[number] = spelled
        target_port = str(port.get("targetPort") or number)
        listens = target_port if is_digits(target_port) else listening.get(name, "")
        if listens and pods.get(listens) != own:
            pods[listens] = spelled
        if port.get("nodePort"):
            nodes[str(port["nodePort"])] = spelled
    addresses = [one for one in (*(spec.get("clusterIPs") or ()), spec.get("clusterIP")) if one and one != "None"]
    hosts: dict[str, None] = {}
    entries = (entry for piece in slices for entry in piece.get("endpoints") or ())
    for entry in islice(entries, _MAX_ENDPOINTS):
        for address in entry.get("addresses") or ():
            hosts |= dict.fromkeys(_address_hosts(address, target.namespace))
        reference = entry.get("targetRef") or {}
        if reference.get("kind") == "Pod" and reference.get("name"):
            hosts[reference["name"]] = None
    return TargetAddresses(
        target,
        number=resolved.listen_port,
        ports=PortSpellings(own, pods, declared, nodes),
        service=addresses,
        pods=hosts,
        outer=outer,
    )


def _container_ports(pod: Object) -> list[dict[str, object]]:
    return [
        port
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("protocol") in (None, "TCP")
    ]


def _pod_hosts(pod: Object) -> list[str]:
    status = pod.get("status") or {}
    namespace = pod["metadata"].get("namespace", "")
    hosts = [pod["metadata"]["name"]]
    for address in status.get("podIPs") or ():
        hosts += _address_hosts(address.get("ip") or "", namespace)
    return hosts


def _address_hosts(address: str, namespace: str) -> list[str]:
    """Return a pod's address, and the name that cluster DNS derives from the address."""
    if not address:
        return []
    dashed = re.sub("[.:]", "-", address)
    # Loopback addresses mean a target only together with its port.
    own = [] if address.startswith("127.") or address == "::1" else [address]
    return [*own, f"{dashed}.{namespace}.pod", f"{dashed}.{namespace}.pod.cluster.local"]
