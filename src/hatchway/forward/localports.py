"""Chooses the local ports for the forwards that a user asks for, from the specs and the cluster's objects. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from ipaddress import IPv4Address

from hatchway.errors import HatchwayError
from hatchway.forward.specs import ForwardSpec, PortSpec
from hatchway.kube.api import Object
from hatchway.kube.ports import Port, ports
from hatchway.kube.readyendpoints import why_out_of_reach
from hatchway.numerals import is_digits
from hatchway.printable import printable
from hatchway.route.podport import find_port
from hatchway.target import Target, format_argument

# The loopback addresses of targets: the first address, and the number of addresses. 127.64.0.0/10 belongs to embedded
# clusters.
_FIRST_OWN, _OWN = int(IPv4Address("127.32.0.0")), 1 << 21


@dataclass(frozen=True, slots=True)
class PlannedForward:
    """A port of a target that gets a local port.

    target: the target with its port. The port is a name if it is a named TCP port of a workload or if its number is not
        known; otherwise it is a number.
    number: the port's number; 0 when it is not known (the target cannot be read, and the user has named the port). In
        other pods of the workload, the same name may have another number.
    port_name: the port's name; "" without one.
    local: the local port to take; 0 for any free one.
    exact: True if the forward fails when this local port is in use; False to take any free port instead.
    protocol: TCP or UDP.
    """

    target: Target
    number: int
    port_name: str
    local: int
    exact: bool
    protocol: str = "TCP"

    @property
    def label(self) -> str:
        """Return the target and its port for output, such as `svc/web:http`."""
        protocol = "/udp" if self.protocol == "UDP" else ""
        return f"{format_argument(replace(self.target, port=''))}:{self.port_name or self.target.port}{protocol}"


def plan_forwards(spec: ForwardSpec, found: Object | None) -> list[PlannedForward]:
    """Return the forwards of a spec.

    found: the target's object; None for a host, and when the object cannot be read. Without the object, each port must
        be a number, or a name with a given local port.

    Raises:
        HatchwayError: the target has no such port, or no port that can be forwarded.
    """
    target = spec.target
    declared = ports(found) if found is not None else []
    if spec.ports:
        listed = target.kind == "services" and found is not None and not _is_external(found)
        known = found is not None or target.kind == "hosts"
        return [_plan(target, one, declared, known=known, listed=listed) for one in spec.ports]
    usable = [port for port in declared if port.protocol == "TCP"]
    if found is None and target.kind != "hosts":
        raise HatchwayError(f"{target} cannot be read, so its ports are not known", "write the ports after it")
    if not usable:
        raise HatchwayError(f"{target} declares no TCP port", "write the port after it")
    return [_planned(target, port, None) for port in usable]


def _is_external(service: Object) -> bool:
    """Return True for a service of type ExternalName: its host may have ports that the service does not list."""
    return bool((service.get("spec") or {}).get("type") == "ExternalName")


def plan_all(services: list[Object], *, with_pods: bool = True) -> tuple[list[PlannedForward], list[str]]:
    """Return (the forwards of all TCP ports of services, one sentence for each service that is left out).

    with_pods: True to leave out services without pods behind them, because the route reaches pods only.
    """
    planned: list[PlannedForward] = []
    left_out: list[str] = []
    for service in sorted(services, key=lambda one: str(one["metadata"]["name"])):
        metadata = service["metadata"]
        target = Target("services", metadata["name"], metadata["namespace"])
        why = why_out_of_reach(service, None) if with_pods else ""
        usable = [port for port in ports(service) if port.protocol == "TCP"]
        if with_pods and not why and not (service.get("spec") or {}).get("selector"):
            why = "it has no selector, so no pods belong to it"
        if not why and not usable:
            why = "it has no TCP port"
        if why:
            left_out.append(f"{format_argument(target)} is left out: {why}")
        else:
            planned += [_planned(target, port, None) for port in usable]
    return planned, left_out


def _plan(target: Target, wanted: PortSpec, declared: list[Port], *, known: bool, listed: bool) -> PlannedForward:
    """Return the forward of a port.

    declared: the ports that the target's object declares. known: True if that object was read, or is not needed because
    the target is a host. listed: True if the target has only the declared ports.
    """
    port = find_port(declared, wanted.remote, wanted.protocol)
    if port is not None and port.protocol == wanted.protocol:
        return _planned(target, port, wanted)
    if port is not None and (listed or not is_digits(wanted.remote)):
        hint = f"write {wanted.remote}/{port.protocol.lower()}" if port.protocol in ("TCP", "UDP") else ""
        raise HatchwayError(f"{target}: port {wanted.remote} is {port.protocol}, not {wanted.protocol}", hint)
    if not is_digits(wanted.remote):
        if known or wanted.local is None:
            hint = _listed(declared) if known else "write its number"
            if wanted.local is None:
                hint += f"; if {wanted.remote} is another target, write svc/{wanted.remote}"
            raise HatchwayError(f'{target} has no port "{wanted.remote}"', hint)
        named = replace(target, port=wanted.remote)
        return PlannedForward(named, 0, wanted.remote, wanted.local, wanted.local > 0, wanted.protocol)
    if listed:
        raise HatchwayError(f"{target} has no port {wanted.remote}", _listed(declared))
    return _planned(target, Port("", int(wanted.remote), wanted.protocol), wanted)


def _listed(declared: list[Port]) -> str:
    known = printable(", ".join(f"{port.name} ({port.number})" if port.name else str(port.number) for port in declared))
    return f"it has {known}" if known else "it declares no ports"


def _planned(target: Target, port: Port, wanted: PortSpec | None) -> PlannedForward:
    local = wanted.local if wanted is not None else None
    # In the next revision of a workload, the same name may have another number.
    by_name = target.is_workload and port.name and port.protocol == "TCP"
    named = replace(target, port=port.name if by_name else str(port.number))
    if local is None:
        return PlannedForward(named, port.number, port.name, port.number, False, port.protocol)
    return PlannedForward(named, port.number, port.name, local, local > 0, port.protocol)


class OwnAddresses:
    """Gives each target a loopback address.

    A target gets the same address in every command, unless another target of the same command has it already.
    """

    def __init__(self) -> None:
        self._found: dict[Target, str] = {}
        self._taken: set[int] = set()

    def address_of(self, planned: PlannedForward) -> str:
        """Return the address of a forward's target, which all its ports share."""
        target = replace(planned.target, port="")
        known = self._found.get(target)
        if known is None:
            known = self._found[target] = str(IPv4Address(_FIRST_OWN + self._take(target)))
        return known

    def _take(self, target: Target) -> int:
        digest = sha256(f"{target.kind}/{target.namespace}/{target.name}".encode()).digest()
        place = int.from_bytes(digest[:4], "big") % _OWN
        # No address ends with .0 or .255: some programs treat these as network or broadcast addresses.
        while place in self._taken or place & 0xFF in (0, 0xFF):
            place = (place + 1) % _OWN
        self._taken.add(place)
        return place
