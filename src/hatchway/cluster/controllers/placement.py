"""The nodes on which a pod may and should run: the scheduler's filters and its preference. Pure.

The filters, their order and their messages are those of kube-scheduler's plugins (`framework/plugins/`:
nodename, nodeunschedulable, tainttoleration, nodeaffinity, nodeports, noderesources).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hatchway.cluster.controllers.objectfields import controller_of, labels_of, uid_of
from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object
from hatchway.kube.nodeselectors import node_selector_matches, node_term_matches
from hatchway.kube.objects import is_ready
from hatchway.kube.selectors import subset_matches
from hatchway.kube.wellknown import NOT_READY, UNSCHEDULABLE

_NOT_READY_TAINT = {"key": NOT_READY, "effect": "NoSchedule"}
_UNSCHEDULABLE_TAINT = {"key": UNSCHEDULABLE, "effect": "NoSchedule"}

# `GetNonzeroRequests` (kube-scheduler `util/pod_resources.go`): milli-cpu and bytes.
_USUAL = {"cpu": 100, "memory": 200 * 1024 * 1024}


# A pod with more node terms than this is compared with only one node in each turn of the event loop.
_MANY_TERMS = 100


@dataclass(slots=True)
class NodeState:
    """A node, and the resources that the pods bound to it use.

    used: what they request. load: the same, but a pod that requests nothing counts with `_USUAL`.
    """

    node: Object
    used: Counter[str] = field(default_factory=Counter)
    load: Counter[str] = field(default_factory=Counter)
    pods: int = 0
    owners: Counter[str] = field(default_factory=Counter)
    ports: set[tuple[str, str, int]] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Return the node's name."""
        return str(self.node["metadata"]["name"])

    def add(self, pod: Object) -> None:
        """Count a pod that is, or is about to be, on this node."""
        asked = requests(pod)
        self.pods += 1
        self.used.update(asked)
        self.load.update({resource: asked.get(resource) or usual for resource, usual in _USUAL.items()})
        self.owners[owner_id(pod)] += 1
        self.ports |= host_ports(pod)

    def allocatable(self, resource: str) -> int | None:
        """Return how much of a resource the node has for pods; None when the node does not limit it."""
        status = self.node.get("status") or {}
        given = (status.get("allocatable") or status.get("capacity") or {}).get(resource)
        return None if given is None else scaled(resource, given)


@dataclass(frozen=True, slots=True)
class PodDemand:
    """A pod's demands on its node (see `requests` and `host_ports`), read once and compared with all nodes."""

    requests: dict[str, int]
    ports: set[tuple[str, str, int]]

    @classmethod
    def of(cls, pod: Object) -> PodDemand:
        """Return what a pod needs."""
        return cls(requests(pod), host_ports(pod))


def scaled(resource: str, text: str | int | float) -> int:
    """Return a resource's amount as the scheduler counts it: milli-units of cpu, whole units of others, rounded up."""
    value = parse_quantity(text)
    return math.ceil(value * 1000 if resource == "cpu" else value)


def requests(pod: Object) -> dict[str, int]:
    """Return what a pod requests: the sum of its containers or its largest init container, plus overhead."""
    total: Counter[str] = Counter()
    for container in pod["spec"].get("containers") or ():
        total.update(_container_requests(container))
    peak: dict[str, int] = {}
    sidecars: Counter[str] = Counter()
    for container in pod["spec"].get("initContainers") or ():
        own = _container_requests(container)
        if container.get("restartPolicy") == "Always":
            sidecars.update(own)
            own = dict(sidecars)
        else:
            own = dict(sidecars + Counter(own))
        for resource, amount in own.items():
            peak[resource] = max(peak.get(resource, 0), amount)
    total.update(sidecars)
    out = {resource: max(total[resource], peak.get(resource, 0)) for resource in {*total, *peak}}
    for resource, amount in (pod["spec"].get("overhead") or {}).items():
        out[resource] = out.get(resource, 0) + scaled(resource, amount)
    return out


def _container_requests(container: Object) -> dict[str, int]:
    resources = container.get("resources") or {}
    # Without a request, the limit is the request (the API server's defaulting).
    given = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {resource: scaled(resource, amount) for resource, amount in given.items()}


def host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """Return (hostIP, protocol, port) of each port that the pod needs on its node."""
    return {
        (port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def owner_id(pod: Object) -> str:
    """Return the identity by which pods are spread over nodes: their controller's, else their own."""
    ref = controller_of(pod)
    return ref["uid"] if ref else uid_of(pod)


class NodeFit(NamedTuple):
    """The result of comparing a pod's selectors and affinity with a node.

    selected: whether the pod may run there. preference: how much it prefers the node.
    """

    selected: bool
    preference: int


def fit(pod: Object, node: Object) -> NodeFit:
    """Return how the pod's selectors and affinity match the node."""
    return NodeFit(node_selected(pod["spec"], node), _preference(pod["spec"], node))


def has_many_terms(pod: Object) -> bool:
    """Return True when `fit` takes long, because the pod has many terms."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = list(required.get("nodeSelectorTerms") or ())
    terms += [one["preference"] for one in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()]
    return sum(1 + len(term.get("matchExpressions") or ()) for term in terms) > _MANY_TERMS


def refusals(pod: Object, demand: PodDemand, state: NodeState, known: NodeFit | None) -> list[str]:
    """Return why the pod cannot run on this node, in kube-scheduler's words; empty when it can."""
    node, spec = state.node, pod["spec"]
    tolerations = spec.get("tolerations") or ()
    if node["spec"].get("unschedulable") and not tolerated(_UNSCHEDULABLE_TAINT, tolerations):
        return ["node(s) were unschedulable"]
    taint = untolerated(node["spec"].get("taints") or (), tolerations, ("NoSchedule", "NoExecute"))
    if taint is not None:
        return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"]
    # Kubernetes relies on the taint alone, which the node life-cycle controller adds a moment later.
    if not is_ready(node) and not tolerated(_NOT_READY_TAINT, tolerations):
        return ["node(s) were not ready"]
    if not (node_selected(spec, node) if known is None else known.selected):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if any(_ports_clash(port, used) for port in demand.ports for used in state.ports):
        return ["node(s) didn't have free ports for the requested pod ports"]
    return _short_of(demand, state)


def _ports_clash(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or "0.0.0.0" in (one[0], other[0]))


def _short_of(demand: PodDemand, state: NodeState) -> list[str]:
    out = []
    room = state.allocatable("pods")
    if room is not None and state.pods + 1 > room:
        out.append("Too many pods")
    for resource, amount in sorted(demand.requests.items()):
        free = state.allocatable(resource)
        if free is None and "/" in resource:
            free = 0
        if amount and free is not None and state.used[resource] + amount > free:
            out.append(f"Insufficient {resource}")
    return out


def tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    """Return True when one of the tolerations tolerates the taint."""
    return any(tolerates(toleration, taint) for toleration in tolerations)


def tolerates(toleration: Object, taint: Object) -> bool:
    """Return True when the toleration tolerates the taint (ToleratesTaint of api/core/v1/toleration.go)."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(taints: Iterable[Object], tolerations: Iterable[Object], effects: tuple[str, ...]) -> Object | None:
    """Return the first taint with one of these effects that no toleration tolerates; None when there is none."""
    wanted = list(tolerations)
    return next((t for t in taints if t["effect"] in effects and not tolerated(t, wanted)), None)


def node_selected(spec: Object, node: Object) -> bool:
    """Return True when nodeSelector and the required terms of node affinity allow this node."""
    if not subset_matches(spec.get("nodeSelector") or {}, labels_of(node)):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or node_selector_matches(required, node)


def _preference(spec: Object, node: Object) -> int:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    wanted: int = sum(term["weight"] for term in terms if node_term_matches(term["preference"], node))
    taints = [t for t in node["spec"].get("taints") or () if t["effect"] == "PreferNoSchedule"]
    unwanted = sum(not tolerated(taint, spec.get("tolerations") or ()) for taint in taints)
    return wanted - 100 * unwanted


def _load(state: NodeState) -> float:
    shares = [state.load[resource] / room for resource in _USUAL if (room := state.allocatable(resource) or 0) > 0]
    return sum(shares) / len(shares) if shares else 0.0


def choose(
    pod: Object,
    states: list[NodeState],
    known: Mapping[str, NodeFit] | None = None,
    volumes: Callable[[Object], list[str]] = lambda _node: [],
) -> tuple[NodeState | None, str]:
    """Return the node for a pod, or None and a message that says why none fits.

    Of the nodes that fit it is the most preferred one, then the one with the fewest pods of the same owner, then the
    least loaded.

    known: results of `fit`, by the nodes' names; for other nodes `fit` is called here.
    volumes: returns why the pod cannot have its volumes on a node.
    """
    found = known or {}
    demand = PodDemand.of(pod)
    reasons: Counter[str] = Counter()
    fitting = []
    for state in states:
        refused = refusals(pod, demand, state, found.get(state.name)) or volumes(state.node)
        reasons.update(refused)
        if not refused:
            fitting.append(state)
    if fitting:
        owner = owner_id(pod)
        wanted = {s.name: (found.get(s.name) or fit(pod, s.node)).preference for s in fitting}
        best = min(fitting, key=lambda s: (-wanted[s.name], s.owners[owner], _load(s), s.pods, s.name))
        return best, ""
    if not states:
        return None, "no nodes available to schedule pods"
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return None, f"0/{len(states)} nodes are available: {listed}."
