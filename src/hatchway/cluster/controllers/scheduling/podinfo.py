"""The facts about a pod that the scheduler compares: requests, ports, priority, affinity terms. Pure."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hatchway.cluster.controllers.objectfields import controller_of, is_deleting, labels_of, uid_of
from hatchway.cluster.hostports import HostPort, host_ports
from hatchway.cluster.podresources import reserved_spec
from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of
from hatchway.kube.selectors import selector_matches

__all__ = ["AffinityTerm", "NamespaceLabels", "PodGroup", "PodInfo", "requests", "scaled"]

# The parts of a pod that selectors read: its namespace, its labels, and True if it is being deleted. The pods of one
# controller are usually in the same group, and each selector is compared only once with each group.
PodGroup = tuple[str, frozenset[tuple[str, str]], bool]
# Returns a namespace's labels.
NamespaceLabels = Callable[[str], Mapping[str, str]]

# The amounts (milli-cpu, bytes) that a pod without requests counts as (`GetNonzeroRequests` of kube-scheduler's
# `util/pod_resources.go`).
_USUAL = {"cpu": 100, "memory": 200 * 1024 * 1024}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@functools.lru_cache(4096)
def scaled(resource: str, text: str | int | float) -> int:
    """Return an amount as an integer, rounded up: in milli-units for cpu, in whole units for other resources."""
    value = parse_quantity(text)
    return math.ceil(value * 1000 if resource == "cpu" else value)


def requests(pod: Object) -> dict[str, int]:
    """Return the requests of a pod, by resource (`PodRequests` of `component-helpers/resource`).

    A request is the highest amount that the containers and sidecars, or one of the init containers, request at a time.
    spec.resources replaces this amount. The pod's overhead is added.
    """
    spec = reserved_spec(pod)
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        total.update(_amounts(container.get("resources")))
    peak: dict[str, int] = {}
    sidecars: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        own = Counter(_amounts(container.get("resources")))
        if container.get("restartPolicy") == "Always":
            sidecars.update(own)
            own = sidecars.copy()
        else:
            own.update(sidecars)
        for resource, amount in own.items():
            peak[resource] = max(peak.get(resource, 0), amount)
    total.update(sidecars)
    out = {resource: max(total[resource], peak.get(resource, 0)) for resource in {*total, *peak}}
    for resource, amount in _amounts(spec.get("resources")).items():
        if resource in ("cpu", "memory") or resource.startswith("hugepages-"):
            out[resource] = amount
    for resource, text in (spec.get("overhead") or {}).items():
        out[resource] = out.get(resource, 0) + scaled(resource, text)
    return out


def _amounts(resources: Object | None) -> dict[str, int]:
    found = resources or {}
    # Without a request, the limit is the request (the API server's defaulting).
    given = {**(found.get("limits") or {}), **(found.get("requests") or {})}
    return {resource: scaled(resource, amount) for resource, amount in given.items()}


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """One term of pod affinity or anti-affinity.

    selector: a LabelSelector; None selects no pod.
    namespaces: the namespaces of the selected pods.
    namespace_selector: selects further namespaces; None for none.
    weight: the weight of a preferred term.
    """

    selector: Object | None
    namespaces: frozenset[str]
    namespace_selector: Object | None
    topology_key: str
    weight: int = 0

    def matches(self, group: PodGroup, namespace_labels: NamespaceLabels) -> bool:
        """Return True when the term selects pods of this group (`AffinityTerm.Matches`)."""
        if self.selector is None or not self._has_namespace(group[0], namespace_labels):
            return False
        return selector_matches(self.selector, dict(group[1]))

    def _has_namespace(self, namespace: str, namespace_labels: NamespaceLabels) -> bool:
        if namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and selector_matches(
            self.namespace_selector, namespace_labels(namespace)
        )


@dataclass(frozen=True, slots=True)
class PodInfo:
    """The parts of a pod that the scheduler needs.

    requests: the pod's requests, by resource.
    load: the pod's requests for cpu and memory, or default amounts if it has none.
    group: the parts of the pod that selectors read. terminating: True while the pod is being deleted.
    affinity, anti_affinity: the required terms. preferred, avoided: the preferred terms of affinity and anti-affinity.
    owner: the uid of the pod's controller, else of the pod. Pods with the same owner are spread over nodes.
    """

    pod: Object
    key: Key
    uid: str
    labels: Mapping[str, str]
    group: PodGroup
    priority: int
    terminating: bool
    requests: Mapping[str, int]
    load: Mapping[str, int]
    ports: frozenset[HostPort]
    owner: str
    affinity: tuple[AffinityTerm, ...]
    anti_affinity: tuple[AffinityTerm, ...]
    preferred: tuple[AffinityTerm, ...]
    avoided: tuple[AffinityTerm, ...]

    @property
    def namespace(self) -> str:
        """Return the pod's namespace."""
        return self.key[0]

    @property
    def terms(self) -> int:
        """Return the number of affinity terms."""
        return len(self.affinity) + len(self.anti_affinity) + len(self.preferred) + len(self.avoided)

    @classmethod
    def of(cls, pod: Object) -> PodInfo:
        """Read a pod."""
        asked, labels, key = requests(pod), labels_of(pod), key_of(pod)
        ref = controller_of(pod)
        return cls(
            pod=pod,
            key=key,
            uid=uid_of(pod),
            labels=labels,
            group=(key[0], frozenset(labels.items()), is_deleting(pod)),
            priority=int(pod["spec"].get("priority") or 0),
            terminating=is_deleting(pod),
            requests=asked,
            load={resource: asked.get(resource) or usual for resource, usual in _USUAL.items()},
            ports=host_ports(pod),
            owner=ref["uid"] if ref else uid_of(pod),
            affinity=_required(pod, "podAffinity"),
            anti_affinity=_required(pod, "podAntiAffinity"),
            preferred=_preferred(pod, "podAffinity"),
            avoided=_preferred(pod, "podAntiAffinity"),
        )


def _required(pod: Object, kind: str) -> tuple[AffinityTerm, ...]:
    found = ((pod["spec"].get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or ()
    return tuple(_term(pod, one, 0) for one in found)


def _preferred(pod: Object, kind: str) -> tuple[AffinityTerm, ...]:
    found = ((pod["spec"].get("affinity") or {}).get(kind) or {}).get(_PREFERRED) or ()
    return tuple(_term(pod, one.get("podAffinityTerm") or {}, one.get("weight", 0)) for one in found)


def _term(pod: Object, term: Object, weight: int) -> AffinityTerm:
    namespaces, selector = term.get("namespaces") or (), term.get("namespaceSelector")
    if not namespaces and selector is None:
        namespaces = (key_of(pod)[0],)
    return AffinityTerm(term.get("labelSelector"), frozenset(namespaces), selector, term.get("topologyKey", ""), weight)
