"""Affinity and anti-affinity between pods (kube-scheduler's `framework/plugins/interpodaffinity`). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hatchway.cluster.controllers.objectfields import labels_of
from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState, NodeState
from hatchway.cluster.controllers.scheduling.podinfo import AffinityTerm, NamespaceLabels, PodGroup, PodInfo
from hatchway.kube.api import Object

__all__ = ["AffinityCounts", "affinity_scores"]

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"
# The weight, in scores, of another pod's required affinity term that selects the new pod (`HardPodAffinityWeight`).
_HARD_WEIGHT = 1

# A topology key and its value on a node.
_Domain = tuple[str, str]


class AffinityCounts:
    """Counts, for each topology domain, the pods that matter to one pod's required terms.

    It can be updated for a single pod that is added or removed, so that preemption does not count all pods again.
    """

    def __init__(self, info: PodInfo, cluster: ClusterState) -> None:
        self._info = info
        self._namespace_labels = cluster.namespace_labels
        # The counts of three kinds of pods: those that match all affinity terms, those that match an anti-affinity
        # term, and those whose anti-affinity selects this pod.
        self._wanted: Counter[_Domain] = Counter()
        self._avoided: Counter[_Domain] = Counter()
        self._avoiding: Counter[_Domain] = Counter()
        self._known: dict[PodGroup, tuple[bool, list[AffinityTerm]]] = {}
        for state in cluster.states():
            labels = labels_of(state.node)
            for group, count in state.groups.items() if info.affinity or info.anti_affinity else ():
                self._count_group(group, labels, count)
            for other in state.with_terms.values():
                self._count_terms(other, labels, 1)

    def update(self, other: PodInfo, node: Object, sign: int) -> None:
        """Count a pod on a node (sign 1), or stop counting it (sign -1)."""
        labels = labels_of(node)
        if self._info.affinity or self._info.anti_affinity:
            self._count_group(other.group, labels, sign)
        self._count_terms(other, labels, sign)

    def _count_group(self, group: PodGroup, labels: dict[str, str], count: int) -> None:
        """Count pods that this pod's terms may select."""
        known = self._known.get(group)
        if known is None:
            info = self._info
            wanted = bool(info.affinity) and all(self._matches(term, group) for term in info.affinity)
            known = self._known[group] = wanted, [one for one in info.anti_affinity if self._matches(one, group)]
        if known[0]:
            _count(self._wanted, self._info.affinity, labels, count)
        _count(self._avoided, known[1], labels, count)

    def _count_terms(self, other: PodInfo, labels: dict[str, str], count: int) -> None:
        """Count a pod whose anti-affinity may select this pod."""
        terms = (one for one in other.anti_affinity if self._matches(one, self._info.group))
        _count(self._avoiding, terms, labels, count)

    def _matches(self, term: AffinityTerm, group: PodGroup) -> bool:
        return term.matches(group, self._namespace_labels)

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
        # The first pod of a group whose pods have affinity to each other may run on any node.
        return not any(count > 0 for count in self._wanted.values()) and all(
            self._matches(term, self._info.group) for term in self._info.affinity
        )


def _count(counts: Counter[_Domain], terms: Iterable[AffinityTerm], labels: dict[str, str], count: int) -> None:
    for term in terms:
        value = labels.get(term.topology_key)
        if value is not None:
            counts[term.topology_key, value] += count


def affinity_scores(info: PodInfo, cluster: ClusterState, nodes: list[NodeState]) -> dict[str, int] | None:
    """Return the score of each node, 0 to 100, by its name (`Score`); None when no term matches."""
    weights: Counter[_Domain] = Counter()
    namespace_labels = cluster.namespace_labels
    own = [(term, term.weight) for term in info.preferred] + [(term, -term.weight) for term in info.avoided]
    known: dict[PodGroup, list[tuple[AffinityTerm, int]]] = {}
    for state in cluster.states():
        labels = labels_of(state.node)
        for group, count in state.groups.items() if own else ():
            found = known.get(group)
            if found is None:
                found = known[group] = [one for one in own if one[0].matches(group, namespace_labels)]
            _weigh(weights, found, labels, count)
        for other in state.with_terms.values():
            _weigh(weights, _terms_about(other, info, namespace_labels), labels, 1)
    if not weights:
        return None
    scores = {state.name: sum(weights.get(pair, 0) for pair in labels_of(state.node).items()) for state in nodes}
    least, most = min(scores.values()), max(scores.values())
    return {name: 100 * (score - least) // (most - least) if most > least else 0 for name, score in scores.items()}


def _weigh(
    weights: Counter[_Domain], terms: Iterable[tuple[AffinityTerm, int]], labels: dict[str, str], count: int
) -> None:
    for term, weight in terms:
        value = labels.get(term.topology_key)
        if value is not None:
            weights[term.topology_key, value] += weight * count


def _terms_about(
    other: PodInfo, info: PodInfo, namespace_labels: NamespaceLabels
) -> Iterable[tuple[AffinityTerm, int]]:
    """Return those terms of a present pod that select the new pod, with their weights."""
    for term in other.affinity:
        if term.matches(info.group, namespace_labels):
            yield term, _HARD_WEIGHT
    for term in other.preferred:
        if term.matches(info.group, namespace_labels):
            yield term, term.weight
    for term in other.avoided:
        if term.matches(info.group, namespace_labels):
            yield term, -term.weight
