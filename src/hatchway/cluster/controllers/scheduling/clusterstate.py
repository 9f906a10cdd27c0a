"""The nodes and the pods on them as the scheduler sees them (kube-scheduler's `backend/cache`). Pure.

It is updated for each changed pod or node, so that a decision does not have to count all pods again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hatchway.cluster.controllers.scheduling.podinfo import NamespaceLabels, PodGroup, PodInfo, scaled
from hatchway.cluster.hostports import HostPort
from hatchway.kube.api import Object
from hatchway.kube.objects import Key

__all__ = ["AbandonedError", "ClusterState", "NodeState"]

# If a node does not report one of these resources, the node does not limit it. Any other resource that a node does not
# report counts as zero.
_UNLIMITED = frozenset(("cpu", "memory", "ephemeral-storage", "pods"))


class AbandonedError(Exception):
    """A decision has been cancelled."""


@dataclass(slots=True)
class NodeState:
    """A node, and the pods bound to it.

    ports: how many of its pods use each host port.
    groups: the number of its pods in each group.
    with_terms: the pods with affinity terms.
    used: the sum of the pods' requests.
    load: like `used`, but a pod without requests is counted with a default amount.
    nominated: the unbound pods for which other pods of this node were preempted.
    """

    node: Object
    pods: dict[Key, PodInfo] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    load: Counter[str] = field(default_factory=Counter)
    ports: Counter[HostPort] = field(default_factory=Counter)
    groups: Counter[PodGroup] = field(default_factory=Counter)
    with_terms: dict[Key, PodInfo] = field(default_factory=dict)
    nominated: dict[Key, PodInfo] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the node's name."""
        return str(self.node["metadata"]["name"])

    def add(self, info: PodInfo) -> None:
        """Count a pod that is bound, or is being bound, to this node."""
        self.pods[info.key] = info
        self.used.update(info.requests)
        self.load.update(info.load)
        self.ports.update(info.ports)
        self.groups[info.group] += 1
        if info.terms:
            self.with_terms[info.key] = info

    def remove(self, info: PodInfo) -> None:
        """Stop counting a pod that was added."""
        del self.pods[info.key]
        self.used.subtract(info.requests)
        self.load.subtract(info.load)
        for port in info.ports:
            self.ports[port] -= 1
            if not self.ports[port]:
                del self.ports[port]
        self.groups[info.group] -= 1
        if not self.groups[info.group]:
            del self.groups[info.group]
        self.with_terms.pop(info.key, None)

    def copy(self) -> NodeState:
        """Return a copy that can be changed."""
        return NodeState(
            self.node,
            dict(self.pods),
            self.used.copy(),
            self.load.copy(),
            self.ports.copy(),
            self.groups.copy(),
            dict(self.with_terms),
            dict(self.nominated),
        )

    def allocatable(self, resource: str) -> int | None:
        """Return how much of a resource the node has for pods; None when the node does not limit it."""
        status = self.node.get("status") or {}
        given = (status.get("allocatable") or status.get("capacity") or {}).get(resource)
        if given is None:
            return None if resource in _UNLIMITED else 0
        return scaled(resource, given)


def _no_labels(_namespace: str) -> dict[str, str]:
    return {}


class ClusterState:
    """All nodes with their pods. namespace_labels: returns the labels of a namespace."""

    def __init__(self, nodes: Iterable[Object] = (), namespace_labels: NamespaceLabels = _no_labels) -> None:
        self.nodes: dict[str, NodeState] = {}
        self.namespace_labels = namespace_labels
        # The number of affinity terms of all pods. The time to compare a new pod with these terms is proportional to
        # their number.
        self.terms = 0
        # Set (by another thread) to end a long decision that uses this object.
        self.abandoned = False
        self._places: dict[Key, tuple[str, PodInfo]] = {}
        self._priorities: Counter[int] = Counter()
        self._nominations: dict[Key, tuple[str, PodInfo]] = {}
        for node in nodes:
            self.set_node(node)

    def set_node(self, node: Object) -> None:
        """Add or replace a node. The node keeps its pods."""
        name = node["metadata"]["name"]
        found = self.nodes.get(name)
        if found is not None:
            found.node = node
            return
        state = self.nodes[name] = NodeState(node)
        # The watch may report pods before their node.
        for place, info in self._places.values():
            if place == name:
                state.add(info)
        for place, info in self._nominations.values():
            if place == name:
                state.nominated[info.key] = info

    def remove_node(self, name: str) -> None:
        """Forget a node."""
        self.nodes.pop(name, None)

    def place(self, info: PodInfo, node: str) -> None:
        """Count a pod on a node, and stop counting it on its former node."""
        self.remove(info.key)
        self._places[info.key] = node, info
        self._priorities[info.priority] += 1
        self.terms += info.terms
        if node in self.nodes:
            self.nodes[node].add(info)

    def remove(self, key: Key) -> None:
        """Stop counting a pod, if it is counted."""
        found = self._places.pop(key, None)
        if found is not None:
            self.terms -= found[1].terms
            self._priorities[found[1].priority] -= 1
            if not self._priorities[found[1].priority]:
                del self._priorities[found[1].priority]
            if found[0] in self.nodes:
                self.nodes[found[0]].remove(found[1])

    def place_of(self, key: Key) -> tuple[str, PodInfo] | None:
        """Return (the node on which a pod is counted, the pod's PodInfo); None when it is not counted."""
        return self._places.get(key)

    def nominate(self, info: PodInfo, node: str) -> None:
        """Reserve resources on a node for a pod. Pods of lower priority cannot use them."""
        self.forget_nomination(info.key)
        self._nominations[info.key] = node, info
        if node in self.nodes:
            self.nodes[node].nominated[info.key] = info

    def forget_nomination(self, key: Key) -> None:
        """Release the resources that are reserved for a pod."""
        found = self._nominations.pop(key, None)
        if found is not None and found[0] in self.nodes:
            self.nodes[found[0]].nominated.pop(key, None)

    def nominated_node(self, key: Key) -> str:
        """Return the node on which resources are reserved for a pod; "" for none."""
        found = self._nominations.get(key)
        return found[0] if found else ""

    @property
    def nominations(self) -> int:
        """Return the number of pods for which resources are reserved."""
        return len(self._nominations)

    def below(self, priority: int) -> int:
        """Return the number of pods with a lower priority."""
        return sum(count for value, count in self._priorities.items() if value < priority)

    @property
    def pods(self) -> int:
        """Return the number of pods that are counted."""
        return len(self._places)

    def states(self) -> Iterator[NodeState]:
        """Yield all nodes. Raises AbandonedError when the decision has been cancelled."""
        for state in self.nodes.values():
            if self.abandoned:
                raise AbandonedError
            yield state

    def snapshot(self) -> ClusterState:
        """Return a copy that later changes of this object do not affect."""
        out = ClusterState((), self.namespace_labels)
        out.nodes = {name: state.copy() for name, state in self.nodes.items()}
        out.terms = self.terms
        out._places = dict(self._places)
        out._priorities = self._priorities.copy()
        out._nominations = dict(self._nominations)
        return out
