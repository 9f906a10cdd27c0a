"""Which port of a target is meant, and what is spoken there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hatchway.door.lookup import Lookup
from hatchway.kube.api import Object
from hatchway.kube.endpoints import SERVICE_NAME
from hatchway.kube.ports import Port, default_port, is_http, ports, scheme_of
from hatchway.numerals import is_digits
from hatchway.target import Target

ANNOTATION = "hatchway.dev/host-header"


@dataclass(frozen=True, slots=True)
class Resolved:
    """target: with port and, where something tells, scheme. sure: the scheme was said, or the port's description tells
    it; otherwise HTTP is tried first. number: the port that is listened on as far as known, "" when not;
    service_number: the service's own. http: False when the port is known to speak no HTTP.
    host_header: what the Service's annotation wants as Host, "" when it says nothing.
    """

    target: Target
    sure: bool
    number: str = ""
    host_header: str = ""
    service_number: str = ""
    http: bool = True


async def resolve(target: Target, lookup: Lookup) -> Resolved:
    """Fill in what a host name has left out. Raises ApiError when the API server cannot be asked.

    What may not be read, or does not exist, is left as it was said: the API server's answer will tell.
    """
    if target.kind == "nodes":
        return Resolved(target, bool(target.scheme))
    found = (await lookup.get(target.kind, target.namespace, target.name)).object
    if found is None:
        return Resolved(target, bool(target.scheme), target.port if is_digits(target.port) else "")
    port = _port(target, ports(found))
    if port is None:
        return Resolved(target, bool(target.scheme), target.port if is_digits(target.port) else "", _wanted(found))
    said = target.port
    if not said:
        # An unnamed port of a service is what is meant when none is said (`ResourceLocation`); pods take numbers.
        said = port.name if target.kind == "services" else str(port.number)
    scheme = target.scheme or scheme_of(port)
    resolved = replace(target, port=said, scheme="" if scheme == "http" and not target.scheme else scheme)
    number = port.target if is_digits(port.target) else await _listens(target, port, lookup) or str(port.number)
    speaks = bool(target.scheme) or is_http(port) is not False
    return Resolved(resolved, bool(scheme), number, _wanted(found), str(port.number), speaks)


def _port(target: Target, declared: list[Port]) -> Port | None:
    if target.port:
        return next((port for port in declared if target.port in (port.name, str(port.number))), None)
    if target.scheme:
        fitting = [port for port in declared if scheme_of(port) == target.scheme]
        if fitting:
            return default_port(fitting)
    return default_port(declared) or next(iter(declared), None)


async def _listens(target: Target, port: Port, lookup: Lookup) -> str:
    """The number behind a targetPort that is a name, as the service's endpoints have it; "" when nothing tells."""
    if not port.target:
        return ""
    slices = await lookup.list("endpointslices.discovery.k8s.io", target.namespace, f"{SERVICE_NAME}={target.name}")
    found = (
        one.get("port") for piece in slices for one in piece.get("ports") or () if (one.get("name") or "") == port.name
    )
    return next((str(number) for number in found if number), "")


def _wanted(obj: Object) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(ANNOTATION, ""))
