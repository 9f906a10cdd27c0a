"""Finds the port that a target means, and the protocol that it speaks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hatchway.kube.api import Object
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.ports import Port, declared_other, default_port, ports, scheme_of
from hatchway.kube.wellknown import ENDPOINT_SLICES, SERVICE_NAME
from hatchway.numerals import is_digits
from hatchway.target import Target

HOST_HEADER_ANNOTATION = "hatchway.dev/host-header"


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """A target, and facts about its port from the target's Service, Pod or Node.

    target: the target with its port and, if the object shows it, its scheme.
    scheme_given: True when the user has written the scheme. Otherwise the scheme of `target` (or HTTP) is a guess, and
    the other scheme may be tried next.
    listen_port: the number of the port on which the program listens, in digits; "" when it is not known.
    host_header: the value of the annotation `HOST_HEADER_ANNOTATION`; "" without one.
    service_port: the number of the service's own port, in digits; "" when it is not known.
    no_http: why the port does not speak HTTP according to the object (`declared_other`); "" when it may speak HTTP.
    """

    target: Target
    scheme_given: bool
    listen_port: str = ""
    host_header: str = ""
    service_port: str = ""
    no_http: str = ""


async def resolve(target: Target, lookup: ObjectLookup) -> ResolvedTarget:
    """Return the target, completed with the port and the scheme if they were not written.

    A target that does not exist or that the user may not read stays unchanged: the API server's answer to the proxied
    request then names the reason.

    Raises:
        ApiError: the API server cannot be reached, or answers with an error other than 403 and 404.
    """
    scheme_given = bool(target.scheme)
    if target.kind == "nodes":
        return ResolvedTarget(target, scheme_given)
    number = target.port if is_digits(target.port) else ""
    found = (await lookup.get(target.kind, target.namespace, target.name)).object
    if found is None:
        return ResolvedTarget(target, scheme_given, number)
    port = _find_port(target, ports(found))
    if port is None:
        return ResolvedTarget(target, scheme_given, number, _host_header(found))
    spelled = target.port
    if not spelled:
        # A service's port without a name needs a proxy path without a port (`ResourceLocation`); pods need numbers.
        spelled = port.name if target.kind == "services" else str(port.number)
    scheme = target.scheme or scheme_of(port)
    resolved = replace(target, port=spelled, scheme="" if scheme == "http" and not target.scheme else scheme)
    number = port.target if is_digits(port.target) else await _named_port(target, port, lookup) or str(port.number)
    no_http = "" if scheme_given else declared_other(port)
    return ResolvedTarget(resolved, scheme_given, number, _host_header(found), str(port.number), no_http)


def _find_port(target: Target, declared: list[Port]) -> Port | None:
    if target.port:
        return next((port for port in declared if target.port in (port.name, str(port.number))), None)
    if target.scheme:
        fitting = [port for port in declared if scheme_of(port) == target.scheme]
        if fitting:
            return default_port(fitting)
    return default_port(declared) or next(iter(declared), None)


async def _named_port(target: Target, port: Port, lookup: ObjectLookup) -> str:
    """Return the number of a targetPort that is given by name, from the service's EndpointSlices; "" when unknown."""
    if not port.target:
        return ""
    slices = await lookup.list_readable(ENDPOINT_SLICES, target.namespace, f"{SERVICE_NAME}={target.name}")
    found = (
        one.get("port") for piece in slices for one in piece.get("ports") or () if (one.get("name") or "") == port.name
    )
    return next((str(number) for number in found if number), "")


def _host_header(obj: Object) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(HOST_HEADER_ANNOTATION, ""))
