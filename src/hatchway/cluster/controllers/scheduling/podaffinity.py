"""Affinity and anti-affinity between pods (kube-scheduler's `framework/plugins/interpodaffinity`). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hatchway.cluster.controllers.objectfields import labels_of
from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState, NodeState
from hatchway.cluster.controllers.scheduling.podinfo import AffinityTerm, NamespaceLabels, PodInfo
from hatchway.kube.api import Object

__all__ = ["AffinityCounts", "affinity_scores"]

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"
# A required affinity term of a pod that is there counts this much for a pod that it selects (`HardPodAffinityWeight`).
_HARD_WEIGHT = 1

# A topology key and its value on a node.
_Domain = tuple[str, str]


class AffinityCounts:
    """The pods in each topology domain that matter to one pod's required terms.

    It can be updated for a pod that is taken away or comes, so that preemption is tried without counting again.
    """

    def __init__(self, info: PodInfo, cluster: ClusterState) -> None:
        self._info = info
        self._namespace_labels = cluster.namespace_labels
        # Pods that match all affinity terms; that match an anti-affinity term; whose anti-affinity selects this pod.
        self._wanted: Counter[_Domain] = Counter()
        self._avoided: Counter[_Domain] = Counter()
        self._avoiding: Counter[_Domain] = Counter()
        # Pods of a controller have the same labels, so they are compared once.
        self._known: dict[tuple[str, frozenset[tuple[str, str]]], tuple[bool, list[AffinityTerm]]] = {}
        for state in cluster.states():
            found = state.pods if info.affinity or info.anti_affinity else state.with_terms
            for other in found.values():
                self.update(other, state.node, 1)

    def update(self, other: PodInfo, node: Object, sign: int) -> None:
        """Count a pod on a node (sign 1), or stop counting it (sign -1)."""
        info, labels = self._info, labels_of(node)
        if info.affinity or info.anti_affinity:
            known = self._known.get(other.group)
            if known is None:
                wanted = bool(info.affinity) and all(self._matches(term, other) for term in info.affinity)
                known = self._known[other.group] = (
                    wanted,
                    [term for term in info.anti_affinity if self._matches(term, other)],
                )
            if known[0]:
                _count(self._wanted, info.affinity, labels, sign)
            _count(self._avoided, known[1], labels, sign)
        if other.anti_affinity:
            _count(self._avoiding, (one for one in other.anti_affinity if self._matches(one, info)), labels, sign)

    def _matches(self, term: AffinityTerm, other: PodInfo) -> bool:
        return term.matches(other, self._namespace_labels)

    def refusal(self, state: NodeState) -> str:
        """Return why the node does not satisfy the terms, "" when it does."""
        info, labels = self._info, labels_of(state.node)
        if info.affinity and not self._satisfies(labels):
            return AFFINITY
        for term in info.anti_affinity:
            value = labels.get(term.topology_key)
            if value is not None and self._avoided.get((term.topology_key, value), 0) > 0:
                return ANTI_AFFINITY
        if self._avoiding and any(self._avoiding.get(pair, 0) > 0 for pair in labels.items()):
            return EXISTING_ANTI_AFFINITY
        return ""

    def _satisfies(self, labels: dict[str, str]) -> bool:
        everywhere = True
        for term in self._info.affinity:
            value = labels.get(term.topology_key)
            if value is None:
                return False
            everywhere = everywhere and self._wanted.get((term.topology_key, value), 0) > 0
        if everywhere:
            return True
        # The first pod of a group that wants to be together may go anywhere.
        return not any(count > 0 for count in self._wanted.values()) and all(
            self._matches(term, self._info) for term in self._info.affinity
        )


def _count(counts: Counter[_Domain], terms: Iterable[AffinityTerm], labels: dict[str, str], sign: int) -> None:
    for term in terms:
        value = labels.get(term.topology_key)
        if value is not None:
            counts[term.topology_key, value] += sign


def affinity_scores(info: PodInfo, cluster: ClusterState, nodes: list[NodeState]) -> dict[str, int] | None:
    """Return the score of each node, 0 to 100, by its name (`Score`); None when no term says anything."""
    weights: Counter[_Domain] = Counter()
    namespace_labels = cluster.namespace_labels
    own = [(term, term.weight) for term in info.preferred] + [(term, -term.weight) for term in info.avoided]
    known: dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[AffinityTerm, int]]] = {}
    for state in cluster.states():
        labels = labels_of(state.node)
        for other in (state.pods if own else state.with_terms).values():
            if own:
                found = known.get(other.group)
                if found is None:
                    found = known[other.group] = [one for one in own if one[0].matches(other, namespace_labels)]
                _weigh(weights, found, labels)
            if other.terms:
                _weigh(weights, _terms_about(other, info, namespace_labels), labels)
    if not weights:
        return None
    scores = {state.name: sum(weights.get(pair, 0) for pair in labels_of(state.node).items()) for state in nodes}
    least, most = min(scores.values()), max(scores.values())
    return {name: 100 * (score - least) // (most - least) if most > least else 0 for name, score in scores.items()}


def _weigh(weights: Counter[_Domain], terms: Iterable[tuple[AffinityTerm, int]], labels: dict[str, str]) -> None:
    for term, weight in terms:
        value = labels.get(term.topology_key)
        if value is not None:
            weights[term.topology_key, value] += weight


def _terms_about(
    other: PodInfo, info: PodInfo, namespace_labels: NamespaceLabels
) -> Iterable[tuple[AffinityTerm, int]]:
    """Return the terms of a pod that is there which select the new pod, with their weights."""
    for term in other.affinity:
        if term.matches(info, namespace_labels):
            yield term, _HARD_WEIGHT
    for term in other.preferred:
        if term.matches(info, namespace_labels):
            yield term, term.weight
    for term in other.avoided:
        if term.matches(info, namespace_labels):
            yield term, -term.weight
