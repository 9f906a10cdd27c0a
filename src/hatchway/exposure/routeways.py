"""Finds the Services behind names and who can reach them: shared by Ingresses and all routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatchway.exposure.backends import (
    ClusterFacts,
    PortVerdict,
    annotations_of,
    policies_of,
    reach_of,
    service_ports,
    shield_of,
    workloads_of,
)
from hatchway.exposure.findings import MOST_LOCATIONS, ON_PURPOSE, Exposure, Issue, Location
from hatchway.exposure.publishers import Publisher
from hatchway.exposure.ranges import EVERYWHERE, NOWHERE
from hatchway.exposure.sensitive import sensitive_program
from hatchway.exposure.snapshot import ObservedPod, key
from hatchway.kube.api import Object


@dataclass(frozen=True, slots=True)
class RouteBackend:
    """A Service that gets the requests for a name. port: the number or name of the Service's port; 0 for all ports."""

    namespace: str
    service: str
    port: int | str


@dataclass(frozen=True, slots=True)
class BackendVerdict:
    """The backends of a name.

    verdicts: who can connect to each backend. pods: the pods of all backends.
    missing: Services that do not exist, or have no endpoints.
    program: a text with a program that must not be reachable from outside, and with its Service; "" for none.
    sensitive: all Services of such programs.
    """

    verdicts: tuple[PortVerdict, ...]
    pods: tuple[ObservedPod, ...]
    missing: tuple[RouteBackend, ...]
    program: str
    sensitive: tuple[RouteBackend, ...]


def judge_backends(backends: Iterable[RouteBackend], publisher: Publisher, facts: ClusterFacts) -> BackendVerdict:
    """Return the backends of a name, and whether NetworkPolicies let the publisher connect to them."""
    verdicts: list[PortVerdict] = []
    pods: list[ObservedPod] = []
    missing: list[RouteBackend] = []
    sensitive: list[RouteBackend] = []
    program = ""
    for backend in dict.fromkeys(backends):
        service = facts.snapshot.services_by_key.get((backend.namespace, backend.service))
        if service is None or facts.has_nothing_behind(service):
            if service is not None or facts.snapshot.has_read("services", backend.namespace):
                missing.append(backend)
            continue
        for port in service_ports(service):
            if backend.port and backend.port not in (port.number, port.name):
                continue
            behind = facts.snapshot.pods_of(service)
            passes = not behind or any(
                _lets_through(facts, pod, pod.find_port(port.target, port.protocol) or port.number, publisher)
                for pod in behind
            )
            numbers = {pod.find_port(port.target, port.protocol) for pod in behind} - {0}
            called = sensitive_program(*sorted(numbers), port.number)
            admitted = publisher.sources if passes else NOWHERE
            policies = {
                policy
                for pod in behind
                for policy in facts.policies.admission(pod, pod.find_port(port.target, port.protocol)).policies
            }
            verdicts.append(
                PortVerdict(
                    port.number,
                    port.protocol,
                    publisher.sources,
                    admitted,
                    tuple(sorted(policies)),
                    0 if passes else len(behind),
                    False,
                    called,
                )
            )
            pods += behind
            if passes and called:
                sensitive.append(backend)
                program = program or f"{called} of service {backend.service}"
    return BackendVerdict(tuple(verdicts), tuple(pods), tuple(missing), program, tuple(sensitive))


def published_way(
    obj: Object,
    kind: str,
    way: str,
    found: BackendVerdict,
    publisher: Publisher,
    facts: ClusterFacts,
    locations: Sequence[Location],
    issues: Sequence[Issue],
    note: str = "",
) -> Exposure:
    """Return the way in that an object opens by publishing Services at names. kind: the kind of the object."""
    namespace, name = key(obj)
    return Exposure(
        kind=kind,
        namespace=namespace,
        name=name,
        way=way,
        locations=tuple(locations[:MOST_LOCATIONS]),
        reach=reach_of(found.verdicts),
        audience=publisher.sources.reach,
        shield=shield_of(found.verdicts),
        policies=policies_of(found.verdicts),
        workloads=workloads_of(found.pods),
        pods=len(found.pods) if facts.snapshot.has_read("pods", namespace) else None,
        issues=tuple(issues),
        accepted=annotations_of(obj).get(ON_PURPOSE, ""),
        note=note,
    )


def _lets_through(facts: ClusterFacts, pod: ObservedPod, port: int, publisher: Publisher) -> bool:
    """Return True when a pod's policies admit the publisher. The pod sees the publisher's address, not the client's."""
    admission = facts.policies.admission(pod, port)
    if not admission.policies:
        return True
    if not publisher.pods:
        # An unknown controller may be any pod, or a machine outside the cluster.
        return admission.admits_any_pod() or bool(admission.sources)
    if any(one.host_network for one in publisher.pods) and admission.sources & facts.node_sources:
        return True
    return admission.sources == EVERYWHERE or any(admission.admits(one) for one in publisher.pods)
