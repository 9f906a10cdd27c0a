"""Finds the ways in by Traefik's IngressRoutes (https://doc.traefik.io/traefik/, group traefik.io). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hatchway.exposure import mending
from hatchway.exposure.backends import ClusterFacts, PortVerdict, ServicePort, reach_of, service_ports
from hatchway.exposure.findings import Exposure, Issue, Location
from hatchway.exposure.middlewares import Middlewares, RouteGuard, references_of
from hatchway.exposure.publishers import Publisher, Publishers
from hatchway.exposure.ranges import NOWHERE
from hatchway.exposure.routeways import BackendVerdict, RouteBackend, judge_backends, published_way
from hatchway.exposure.serviceways import balancer_hosts
from hatchway.exposure.snapshot import ClusterSnapshot, key
from hatchway.exposure.tolerant import mapping, mappings, number, pairs, text, texts
from hatchway.kube.api import Object
from hatchway.kube.ingressroutes import parse_rule

__all__ = ["is_traefik", "traefik_ways"]

# The kinds of routes, each with its kind of middlewares.
_KINDS: Final = {"IngressRoute": "Middleware", "IngressRouteTCP": "MiddlewareTCP", "IngressRouteUDP": ""}
# Labels by which Traefik's Services are found: those of its Helm chart (K3s', too) and of older manifests.
_LABELS: Final = ("app.kubernetes.io/name", "app", "k8s-app")
_NAMES: Final = ("traefik", "traefik-ingress-lb")
# The usual entry point for HTTPS. The Helm chart turns TLS on for all its routes.
_SECURE_POINT: Final = "websecure"
# Traefik's own services that outsiders should not reach.
_INTERNAL: Final = {"api@internal": "Traefik's API and dashboard", "dashboard@internal": "Traefik's dashboard"}


@dataclass(frozen=True, slots=True)
class _EntryPort:
    """A port of one of Traefik's Services, which leads to an entry point."""

    service: Object
    port: ServicePort
    point: str


@dataclass(frozen=True, slots=True)
class _TraefikRule:
    """One rule of an IngressRoute.

    names: the host names of the rule. backends: the Services that get its requests.
    internal: one of Traefik's own services, which clients should not reach; "" for none.
    guard: the effect of its middlewares. has_others: True when some backends are not Services.
    """

    names: tuple[str, ...]
    backends: tuple[RouteBackend, ...]
    internal: str
    guard: RouteGuard
    has_others: bool


def is_traefik(service: Object) -> bool:
    """Return True for a Service of Traefik."""
    labels = pairs(mapping(service.get("metadata")).get("labels"))
    selector = pairs(mapping(service.get("spec")).get("selector"))
    return any(found.get(label) in _NAMES for found in (labels, selector) for label in _LABELS)


def traefik_ways(facts: ClusterFacts, publishers: Publishers, middlewares: Middlewares) -> list[Exposure]:
    """Return a way in for each IngressRoute."""
    ports = list(_entry_ports(facts.snapshot))
    return [_way(route, ports, facts, publishers, middlewares) for route in facts.snapshot.traefik_routes]


def _entry_ports(snapshot: ClusterSnapshot) -> Iterable[_EntryPort]:
    for service in (*snapshot.services, *snapshot.traefik_services):
        kind = text(mapping(service.get("spec")).get("type"))
        if is_traefik(service) and kind in ("LoadBalancer", "NodePort"):
            for port in service_ports(service):
                # The Helm chart names the Service's port and the container's port after the entry point.
                yield _EntryPort(service, port, port.target if isinstance(port.target, str) else port.name)


def _way(
    route: Object, ports: Collection[_EntryPort], facts: ClusterFacts, publishers: Publishers, middlewares: Middlewares
) -> Exposure:
    spec, namespace = mapping(route.get("spec")), key(route)[0]
    kind = text(route.get("kind"))
    protocol = "UDP" if kind == "IngressRouteUDP" else "TCP"
    wanted = texts(spec.get("entryPoints"))
    used = [one for one in ports if one.port.protocol == protocol and (not wanted or one.point in wanted)]
    services = {key(one.service): one.service for one in used}
    publisher = publishers.of_services(services.values())
    rules = list(_rules(spec, namespace, _KINDS.get(kind, ""), middlewares))
    judged = _judge(rules, publisher, facts)
    has_tls = "tls" in spec
    locations = [
        Location(host, port, protocol, host=name, tls=has_tls or one.point == _SECURE_POINT)
        for one in used
        for name in dict.fromkeys(name for rule in rules for name in rule.names)
        for host, port in _addresses(one, facts)
    ]
    plain = [one for one in used if not has_tls and one.point != _SECURE_POINT] if kind == "IngressRoute" else []
    issues = _issues(route, rules, judged, plain)
    unread = sorted({name for rule in rules for name in rule.guard.unknown})
    notes = [
        "" if used or not ports else f"no Service leads to its entry points ({', '.join(wanted[:4])})",
        "Traefik's Service was not found" if not ports else "",
        f"middleware {unread[0]} was not found" if unread else "",
        "its middlewares ask for a login" if rules and all(rule.guard.has_login for rule in rules) else "",
    ]
    note = "; ".join(filter(None, notes))
    way = published_way(route, kind, "IngressRoute", _joined(judged), publisher, facts, locations, issues, note)
    # Without its Service, which may be in a namespace that was not read, it is not known who can reach Traefik.
    return way if ports else replace(way, reach="unknown", audience="unknown")


def _addresses(entry: _EntryPort, facts: ClusterFacts) -> list[tuple[str, int]]:
    """Return the (address, port) at which a port of Traefik's Service is open."""
    hosts = balancer_hosts(entry.service)
    if hosts:
        return [(host, entry.port.number) for host in hosts]
    return [(host, entry.port.node_port) for host in facts.node_addresses() if entry.port.node_port]


def _rules(spec: dict[str, Any], namespace: str, kind: str, middlewares: Middlewares) -> Iterable[_TraefikRule]:
    for route in mappings(spec.get("routes")):
        services = mappings(route.get("services"))
        internal = next((text(one.get("name")) for one in services if text(one.get("name")) in _INTERNAL), "")
        backends = tuple(_backend(one, namespace) for one in services if _is_service(one))
        guard = middlewares.of(references_of(route, namespace), kind) if kind else RouteGuard()
        names = _host_names(route.get("match"))
        yield _TraefikRule(names, backends, internal, guard, len(backends) < len(services))


def _host_names(match: object) -> tuple[str, ...]:
    """Return the host names of a rule; ("",) for a rule that names none, and so may match all host names."""
    return tuple(name for name in parse_rule(match)[0] if name != "*") or ("",)


def _judge(rules: Collection[_TraefikRule], publisher: Publisher, facts: ClusterFacts) -> list[BackendVerdict]:
    """Return the backends of each rule, with the clients that the rule's middlewares let in."""
    found = []
    for rule in rules:
        allowed = rule.guard.allowed
        sources = publisher.sources if allowed is None else publisher.sources & allowed
        if rule.guard.redirects:
            sources = NOWHERE
        one = judge_backends(rule.backends, Publisher(sources, publisher.pods), facts)
        if rule.has_others:
            # Traefik answers for its own services itself; objects of the kind TraefikService are not read.
            own = PortVerdict(0, "TCP", sources, sources, (), 0, False, None)
            one = replace(one, verdicts=(*one.verdicts, own))
        found.append(one)
    return found


def _joined(found: Iterable[BackendVerdict]) -> BackendVerdict:
    """Return the backends of all rules together."""
    found = list(found)
    return BackendVerdict(
        tuple(verdict for one in found for verdict in one.verdicts),
        tuple(pod for one in found for pod in one.pods),
        tuple(dict.fromkeys(backend for one in found for backend in one.missing)),
        next((one.program for one in found if one.program), ""),
        tuple(dict.fromkeys(backend for one in found for backend in one.sensitive)),
    )


def _issues(
    route: Object, rules: Collection[_TraefikRule], judged: Collection[BackendVerdict], plain: Sequence[_EntryPort]
) -> list[Issue]:
    """Return the findings about an IngressRoute. plain: the entry points that serve it without TLS."""
    namespace, name = key(route)
    kind = text(route.get("kind")).lower()
    issues: list[Issue] = []
    both = list(zip(rules, judged, strict=True))
    missing = [backend for one in judged for backend in one.missing]
    if missing:
        told = (
            f"it leads to service {missing[0].service}, which is missing or has no pods:"
            " anyone who creates it publishes its pods"
        )
        issues.append(Issue("no-backend", "low", told, _removal_command(route, missing)))
    public = [(rule, one) for rule, one in both if reach_of(one.verdicts) == "internet"]
    asked_by_none = [(rule, one) for rule, one in public if not rule.guard.has_login]
    internal = next((rule.internal for rule, _ in asked_by_none if rule.internal), "")
    program = _INTERNAL.get(internal) or next((one.program for _, one in asked_by_none if one.program), "")
    if program:
        told = f"anyone on the Internet reaches {program}, which nobody should reach from outside"
        unwanted = [backend for _, one in asked_by_none for backend in one.sensitive]
        mend = mending.delete_command(kind, namespace, name) if internal else _removal_command(route, unwanted)
        issues.append(Issue("sensitive-port", "high", told, mend))
    if public and plain:
        called = next((one for rule, _ in public for one in rule.names if one), "it")
        told = (
            f"{called} is served to the Internet without TLS (entry point {plain[0].point}): others in the network can"
            " read passwords and cookies"
        )
        change = {"spec": {"entryPoints": [_SECURE_POINT], "tls": {}}}
        issues.append(Issue("no-tls", "medium", told, mending.patch_command(kind, namespace, name, change)))
    return issues


def _removal_command(route: Object, unwanted: Collection[RouteBackend]) -> str:
    """Return the command that removes the references to these backends."""
    namespace, name = key(route)
    references = [
        mending.BackendReference(
            f"/spec/routes/{at}/services/{place}", f"/spec/routes/{at}", "/name", backend.service, is_unwanted
        )
        for at, rule in enumerate(mappings(mapping(route.get("spec")).get("routes")))
        for place, service in enumerate(mappings(rule.get("services")))
        for backend in (_backend(service, namespace),)
        for is_unwanted in (_is_service(service) and backend in unwanted,)
    ]
    return mending.without_references(text(route.get("kind")).lower(), namespace, name, references)


def _backend(service: dict[str, Any], namespace: str) -> RouteBackend:
    port = number(service.get("port")) or text(service.get("port"))
    return RouteBackend(text(service.get("namespace")) or namespace, text(service.get("name")), port)


def _is_service(service: dict[str, Any]) -> bool:
    """Return True for a Service of Kubernetes, False for one of Traefik's own."""
    return text(service.get("kind")) in ("", "Service") and "@" not in text(service.get("name"))
