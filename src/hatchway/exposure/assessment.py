"""Finds all ways into a cluster, and their faults, from a snapshot of its objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.exposure.backends import ClusterFacts
from hatchway.exposure.findings import SEVERITIES, Exposure
from hatchway.exposure.gatewayways import gateway_hosts, gateway_ways
from hatchway.exposure.ingressways import ingress_way
from hatchway.exposure.middlewares import Middlewares
from hatchway.exposure.nodeways import node_ways
from hatchway.exposure.publishers import Publishers
from hatchway.exposure.ranges import REACHES
from hatchway.exposure.serviceways import balancer_hosts, service_ways
from hatchway.exposure.snapshot import ClusterSnapshot
from hatchway.exposure.traefikways import traefik_ways


def assess(snapshot: ClusterSnapshot) -> list[Exposure]:
    """Return all ways into a cluster, the worst first."""
    facts = ClusterFacts(snapshot)
    publishers, middlewares = Publishers(facts), Middlewares(snapshot.middlewares)
    controller_hosts = {host.lower() for ingress in snapshot.ingresses for host in balancer_hosts(ingress)}
    controller_hosts |= {host.lower() for gateway in snapshot.gateways for host in gateway_hosts(gateway)}
    found = [way for service in snapshot.services for way in service_ways(service, facts, controller_hosts)]
    found += node_ways(facts)
    found += [ingress_way(ingress, facts, publishers, middlewares) for ingress in snapshot.ingresses]
    found += gateway_ways(facts, publishers)
    found += traefik_ways(facts, publishers, middlewares)
    return in_order(found)


def in_order(exposures: Iterable[Exposure]) -> list[Exposure]:
    """Return the ways in, sorted: the worst first."""
    return sorted(exposures, key=_rank)


def _rank(exposure: Exposure) -> tuple[object, ...]:
    return (
        SEVERITIES.index(exposure.severity),
        REACHES.index(exposure.reach),
        exposure.namespace,
        exposure.kind,
        exposure.name,
        exposure.way,
    )
