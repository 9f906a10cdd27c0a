"""Finds the ways in by Gateways and the routes attached to them (https://gateway-api.sigs.k8s.io/). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hatchway.exposure import mending
from hatchway.exposure.backends import ClusterFacts, annotations_of, reach_of
from hatchway.exposure.findings import MOST_LOCATIONS, ON_PURPOSE, Exposure, Issue, Location
from hatchway.exposure.publishers import Publisher, Publishers
from hatchway.exposure.ranges import NOWHERE
from hatchway.exposure.routeways import RouteBackend, judge_backends, published_way
from hatchway.exposure.snapshot import key
from hatchway.exposure.tolerant import mapping, mappings, number, text, texts
from hatchway.kube.api import Object

# The protocols of listeners to which each kind of route can be attached.
_PROTOCOLS: Final = {
    "HTTPRoute": ("HTTP", "HTTPS"),
    "GRPCRoute": ("HTTP", "HTTPS"),
    "TLSRoute": ("TLS", "HTTPS"),
    "TCPRoute": ("TCP", "TLS"),
    "UDPRoute": ("UDP",),
}


def gateway_hosts(gateway: Object) -> list[str]:
    """Return the addresses and host names of a Gateway."""
    entries = mappings(mapping(gateway.get("status")).get("addresses"))
    return [value for entry in entries if (value := text(entry.get("value")))]


@dataclass(frozen=True, slots=True)
class _Listener:
    protocol: str
    port: int
    hostname: str


def gateway_ways(facts: ClusterFacts, publishers: Publishers) -> list[Exposure]:
    """Return a way in for each route that a Gateway has accepted, and for each Gateway."""
    gateways = {key(gateway): gateway for gateway in facts.snapshot.gateways}
    found = [_gateway_way(gateway, publishers) for gateway in gateways.values()]
    for route in facts.snapshot.routes:
        if way := _route_way(route, gateways, facts, publishers):
            found.append(way)
    return found


def _gateway_way(gateway: Object, publishers: Publishers) -> Exposure:
    namespace, name = key(gateway)
    hosts = gateway_hosts(gateway)
    listeners = mappings(mapping(gateway.get("spec")).get("listeners"))
    reach = publishers.at(hosts, internal=False).sources.reach
    issues = []
    for place, listener in enumerate(listeners):
        namespaces = mapping(mapping(listener.get("allowedRoutes")).get("namespaces"))
        if reach == "internet" and namespaces.get("from") == "All":
            change = [
                {"op": "replace", "path": f"/spec/listeners/{place}/allowedRoutes/namespaces/from", "value": "Same"}
            ]
            issues.append(
                Issue(
                    "gateway-open-to-all-namespaces",
                    "low",
                    "anyone who may create routes in any namespace can publish a Service by listener"
                    f" {text(listener.get('name'))}",
                    mending.patch_command("gateway", namespace, name, change),
                )
            )
            break
    ports = [(number(one.get("port")), text(one.get("protocol"))) for one in listeners]
    locations = [
        Location(host, port, "UDP" if protocol == "UDP" else "TCP", tls=protocol in ("HTTPS", "TLS"))
        for host in publishers.outside(hosts)
        for port, protocol in ports
        if port
    ]
    return Exposure(
        kind="Gateway",
        namespace=namespace,
        name=name,
        way="Gateway",
        locations=tuple(locations[:MOST_LOCATIONS]),
        reach=reach,
        audience=reach,
        pods=None,
        issues=tuple(issues),
        accepted=annotations_of(gateway).get(ON_PURPOSE, ""),
        note="" if hosts else "it has no address yet",
    )


def _route_way(
    route: Object, gateways: Mapping[tuple[str, str], Object], facts: ClusterFacts, publishers: Publishers
) -> Exposure | None:
    """Return the way that a route opens; None when no known Gateway has accepted it."""
    kind = text(route.get("kind"))
    namespace, name = key(route)
    spec = mapping(route.get("spec"))
    names = texts(spec.get("hostnames")) or [""]
    publisher = Publisher(NOWHERE)
    attached: list[tuple[list[str], _Listener]] = []
    for gateway, section in _accepted_parents(route, gateways):
        hosts = gateway_hosts(gateway)
        one = publishers.at(hosts, internal=False)
        publisher = Publisher(publisher.sources | one.sources, publisher.pods + one.pods)
        attached += [(hosts, listener) for listener in _listeners(gateway, section, kind, names)]
    if not attached:
        return None
    backends = list(_backends(namespace, spec))
    if not backends:
        # The route only redirects, or the Gateway answers by itself.
        return None
    found = judge_backends(backends, publisher, facts)
    reach = reach_of(found.verdicts)
    issues: list[Issue] = []
    if found.missing:
        told = (
            f"it leads to service {found.missing[0].service}, which is missing or has no pods:"
            " anyone who creates it publishes its pods"
        )
        issues.append(Issue("no-backend", "low", told, _removal_command(route, found.missing)))
    if reach == "internet" and found.program:
        told = f"anyone on the Internet reaches {found.program}, which nobody should reach from outside"
        issues.append(Issue("sensitive-port", "high", told, _removal_command(route, found.sensitive)))
    if reach == "internet" and any(listener.protocol == "HTTP" for _, listener in attached):
        plain = next(listener for _, listener in attached if listener.protocol == "HTTP")
        told = (
            f"{names[0] or 'it'} is served to the Internet by a listener without TLS (port {plain.port}):"
            " others in the network can read passwords and cookies"
        )
        change = [{"op": "add", "path": "/spec/parentRefs/0/sectionName", "value": "NAME-OF-THE-HTTPS-LISTENER"}]
        issues.append(Issue("no-tls", "medium", told, mending.patch_command(kind.lower(), namespace, name, change)))
    locations = [
        Location(
            host,
            listener.port,
            "UDP" if listener.protocol == "UDP" else "TCP",
            host="" if one.startswith("*") else one,
            tls=listener.protocol in ("HTTPS", "TLS"),
        )
        for hosts, listener in attached
        for host in publishers.outside(hosts)
        for one in names
        if listener.port
    ]
    return published_way(route, kind, "route", found, publisher, facts, locations, issues)


def _accepted_parents(route: Object, gateways: Mapping[tuple[str, str], Object]) -> Iterable[tuple[Object, str]]:
    """Yield the Gateways that have accepted a route, each with the listener's name; "" means all listeners."""
    own = key(route)[0]
    for parent in mappings(mapping(route.get("status")).get("parents")):
        reference = mapping(parent.get("parentRef"))
        accepted = any(
            one.get("type") == "Accepted" and one.get("status") == "True" for one in mappings(parent.get("conditions"))
        )
        gateway = gateways.get((text(reference.get("namespace")) or own, text(reference.get("name"))))
        if accepted and gateway is not None and text(reference.get("kind")) in ("", "Gateway"):
            yield gateway, text(reference.get("sectionName"))


def _listeners(gateway: Object, section: str, kind: str, names: list[str]) -> Iterable[_Listener]:
    for listener in mappings(mapping(gateway.get("spec")).get("listeners")):
        protocol, hostname = text(listener.get("protocol")), text(listener.get("hostname"))
        if section and text(listener.get("name")) != section:
            continue
        if protocol in _PROTOCOLS.get(kind, ()) and any(_names_meet(hostname, one) for one in names):
            yield _Listener(protocol, number(listener.get("port")), hostname)


def _names_meet(one: str, two: str) -> bool:
    """Return True when two host names have a name in common. Each may be a wildcard, or "" for all names."""
    if not one or not two or one == two:
        return True
    first, second = one.removeprefix("*"), two.removeprefix("*")
    if one.startswith("*") and two.startswith("*"):
        return first.endswith(second) or second.endswith(first)
    if one.startswith("*"):
        return two.endswith(first)
    return two.startswith("*") and one.endswith(second)


def _backends(namespace: str, spec: Mapping[str, Any]) -> Iterable[RouteBackend]:
    for _, _, backend in _references(namespace, spec):
        if backend is not None:
            yield backend


def _references(namespace: str, spec: Mapping[str, Any]) -> Iterable[tuple[str, str, RouteBackend | None]]:
    """Yield the references of a route to backends: (JSON pointer, JSON pointer of the rule, backend).

    The backend is None for a reference to something other than a Service, and for a rule without references, which
    answers by itself.
    """
    for at, rule in enumerate(mappings(spec.get("rules"))):
        pointer = f"/spec/rules/{at}"
        references = mappings(rule.get("backendRefs"))
        if not references:
            yield pointer, pointer, None
        for place, reference in enumerate(references):
            backend = None
            if text(reference.get("kind")) in ("", "Service") and not text(reference.get("group")):
                where = text(reference.get("namespace")) or namespace
                backend = RouteBackend(where, text(reference.get("name")), number(reference.get("port")))
            yield f"{pointer}/backendRefs/{place}", pointer, backend


def _removal_command(route: Object, unwanted: Collection[RouteBackend]) -> str:
    """Return the command that removes the references to these backends."""
    namespace, name = key(route)
    references = [
        mending.BackendReference(path, rule, "/name", backend.service if backend else "", backend in unwanted)
        for path, rule, backend in _references(namespace, mapping(route.get("spec")))
    ]
    return mending.without_references(text(route.get("kind")).lower(), namespace, name, references)
