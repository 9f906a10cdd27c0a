"""Which node a pod may and should run on: the scheduler's filters and its preference. Pure.

Filters, their order and the words of their refusals are those of kube-scheduler's plugins (`framework/plugins/`:
nodename, nodeunschedulable, tainttoleration, nodeaffinity, nodeports, noderesources).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hatchway.cluster.controllers.objects import (
    condition_is,
    controller_of,
    labels_of,
    requirement_matches,
    subset_matches,
    uid_of,
)
from hatchway.cluster.node.quantity import parse_quantity
from hatchway.kube.api import Object

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}

# `GetNonzeroRequests` (kube-scheduler `util/pod_resources.go`): milli-cpu and bytes.
_USUAL = {"cpu": 100, "memory": 200 * 1024 * 1024}


@dataclass(slots=True)
class NodeState:
    """A node and what the pods bound to it take.

    used: what they ask for. load: the same, but a pod that asks for nothing counts with what pods usually take.
    """

    node: Object
    used: Counter[str] = field(default_factory=Counter)
    load: Counter[str] = field(default_factory=Counter)
    pods: int = 0
    owners: Counter[str] = field(default_factory=Counter)
    ports: set[tuple[str, str, int]] = field(default_factory=set)

    @property
    def name(self) -> str:
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
        """None when the node does not say: then it does not limit."""
        status = self.node.get("status") or {}
        given = (status.get("allocatable") or status.get("capacity") or {}).get(resource)
        return None if given is None else scaled(resource, given)


def scaled(resource: str, text: str | int | float) -> int:
    """A resource's amount as the scheduler counts it: milli-units of cpu, whole units of others, rounded up."""
    value = parse_quantity(text)
    return math.ceil(value * 1000 if resource == "cpu" else value)


def requests(pod: Object) -> dict[str, int]:
    """What a pod asks for: its containers together, or its largest init container, plus overhead."""
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
    # What is limited but not requested is requested at its limit (the API server's defaulting).
    given = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {resource: scaled(resource, amount) for resource, amount in given.items()}


def host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """(hostIP, protocol, port) of each port that the pod wants on its node."""
    return {
        (port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def owner_id(pod: Object) -> str:
    """What pods are spread by: their controller, else themselves."""
    ref = controller_of(pod)
    return ref["uid"] if ref else uid_of(pod)


def is_ready_node(node: Object) -> bool:
    return condition_is(node, "Ready")


def refusals(pod: Object, state: NodeState) -> list[str]:
    """Why the pod cannot run on this node, in the scheduler's words; empty when it can."""
    node, spec = state.node, pod["spec"]
    tolerations = spec.get("tolerations") or ()
    if node["spec"].get("unschedulable") and not tolerated(UNSCHEDULABLE, tolerations):
        return ["node(s) were unschedulable"]
    taint = untolerated(node["spec"].get("taints") or (), tolerations, ("NoSchedule", "NoExecute"))
    if taint is not None:
        return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"]
    # Kubernetes says this by a taint alone, which the node life-cycle controller adds a moment later.
    if not is_ready_node(node) and not tolerated(NOT_READY, tolerations):
        return ["node(s) were not ready"]
    if not node_selected(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    wanted = host_ports(pod)
    if any(_ports_clash(port, used) for port in wanted for used in state.ports):
        return ["node(s) didn't have free ports for the requested pod ports"]
    return _short_of(pod, state)


def _ports_clash(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or "0.0.0.0" in (one[0], other[0]))


def _short_of(pod: Object, state: NodeState) -> list[str]:
    out = []
    room = state.allocatable("pods")
    if room is not None and state.pods + 1 > room:
        out.append("Too many pods")
    for resource, amount in sorted(requests(pod).items()):
        free = state.allocatable(resource)
        if free is None and "/" in resource:
            free = 0
        if amount and free is not None and state.used[resource] + amount > free:
            out.append(f"Insufficient {resource}")
    return out


def tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def tolerates(toleration: Object, taint: Object) -> bool:
    """`ToleratesTaint` of api/core/v1/toleration.go."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(taints: Iterable[Object], tolerations: Iterable[Object], effects: tuple[str, ...]) -> Object | None:
    wanted = list(tolerations)
    return next((t for t in taints if t["effect"] in effects and not tolerated(t, wanted)), None)


def node_selected(spec: Object, node: Object) -> bool:
    """Whether nodeSelector and the required terms of node affinity allow this node."""
    if not subset_matches(spec.get("nodeSelector") or {}, labels_of(node)):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_term_matches(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_matches(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    values = {"metadata.name": node["metadata"]["name"]}
    return all(requirement_matches(e, labels_of(node)) for e in expressions) and all(
        requirement_matches(f, values) for f in fields
    )


def _preference(spec: Object, node: Object) -> int:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    wanted: int = sum(term["weight"] for term in terms if _term_matches(term["preference"], node))
    taints = [t for t in node["spec"].get("taints") or () if t["effect"] == "PreferNoSchedule"]
    unwanted = sum(not tolerated(taint, spec.get("tolerations") or ()) for taint in taints)
    return wanted - 100 * unwanted


def _load(state: NodeState) -> float:
    shares = [state.load[resource] / room for resource in _USUAL if (room := state.allocatable(resource) or 0) > 0]
    return sum(shares) / len(shares) if shares else 0.0


def choose(pod: Object, states: list[NodeState]) -> tuple[NodeState | None, str]:
    """The node for a pod, or None and the message that tells why there is none.

    Among those that fit: the most preferred, then the one with fewest pods of the same owner, then the least loaded.
    """
    reasons: Counter[str] = Counter()
    fitting = []
    for state in states:
        refused = refusals(pod, state)
        reasons.update(refused)
        if not refused:
            fitting.append(state)
    if fitting:
        owner = owner_id(pod)
        best = min(
            fitting, key=lambda s: (-_preference(pod["spec"], s.node), s.owners[owner], _load(s), s.pods, s.name)
        )
        return best, ""
    if not states:
        return None, "no nodes available to schedule pods"
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return None, f"0/{len(states)} nodes are available: {listed}."
