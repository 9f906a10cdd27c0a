"""Topology spread constraints (kube-scheduler's `framework/plugins/podtopologyspread`). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from hatchway.cluster.controllers.objectfields import labels_of
from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState, NodeState
from hatchway.cluster.controllers.scheduling.nodeselection import node_selected
from hatchway.cluster.controllers.scheduling.podinfo import PodGroup, PodInfo
from hatchway.cluster.controllers.scheduling.tolerations import untolerated
from hatchway.kube.api import Object
from hatchway.kube.selectors import selector_is_empty, selector_matches

__all__ = ["Constraint", "SpreadCounts", "constraints_of", "default_constraints", "spread_scores"]

MISMATCH = "node(s) didn't match pod topology spread constraints"
MISSING_LABEL = f"{MISMATCH} (missing required label)"
_HOSTNAME, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint.

    selector: a LabelSelector; None selects no pod.
    least_domains: minDomains.
    honors_affinity: True to count only nodes that the pod's node affinity allows. honors_taints: the same for its
    tolerations.
    """

    max_skew: int
    topology_key: str
    selector: Object | None
    least_domains: int = 1
    honors_affinity: bool = True
    honors_taints: bool = False
    _known: dict[PodGroup, bool] = field(default_factory=dict, compare=False, repr=False)

    def selects(self, group: PodGroup) -> bool:
        """Return True when the selector selects pods of this group. Their namespace is not compared."""
        found = self._known.get(group)
        if found is None:
            found = self.selector is not None and selector_matches(self.selector, dict(group[1]))
            self._known[group] = found
        return found

    def includes(self, spec: Object, node: Object) -> bool:
        """Return True when the pods of this node count for a pod with this spec (`matchNodeInclusionPolicies`)."""
        if self.honors_affinity and not node_selected(spec, node):
            return False
        if not self.honors_taints:
            return True
        taints, tolerations = node["spec"].get("taints") or (), spec.get("tolerations") or ()
        return untolerated(taints, tolerations, ("NoSchedule", "NoExecute")) is None

    def count(self, groups: Mapping[PodGroup, int], namespace: str) -> int:
        """Return how many pods the constraint counts. Pods that are being deleted do not count."""
        if selector_is_empty(self.selector):
            return 0
        return sum(
            count for group, count in groups.items() if group[0] == namespace and not group[2] and self.selects(group)
        )


def constraints_of(pod: Object, action: str) -> list[Constraint]:
    """Return the pod's own constraints. action: `DoNotSchedule` or `ScheduleAnyway`."""
    labels = labels_of(pod)
    found = []
    for one in pod["spec"].get("topologySpreadConstraints") or ():
        if one.get("whenUnsatisfiable") != action:
            continue
        selector = one.get("labelSelector")
        keys = [key for key in one.get("matchLabelKeys") or () if key in labels]
        if keys and selector is not None:
            expressions = [*(selector.get("matchExpressions") or ())]
            expressions += [{"key": key, "operator": "In", "values": [labels[key]]} for key in keys]
            selector = {**selector, "matchExpressions": expressions}
        found.append(
            Constraint(
                one.get("maxSkew", 1),
                one.get("topologyKey", ""),
                selector,
                one.get("minDomains") or 1,
                one.get("nodeAffinityPolicy", "Honor") == "Honor",
                one.get("nodeTaintsPolicy", "Ignore") == "Honor",
            )
        )
    return found


def default_constraints(selector: Object | None) -> list[Constraint]:
    """Return the default constraints, for pods without own constraints (`systemDefaultConstraints`).

    They are only preferences.
    selector: the combined selector of the pod's Services and controller; None for a pod that has neither.
    """
    if selector is None or selector_is_empty(selector):
        return []
    return [Constraint(3, _HOSTNAME, selector), Constraint(5, _ZONE, selector)]


class SpreadCounts:
    """Counts the matching pods in each domain of a pod's DoNotSchedule constraints.

    It can be updated like `AffinityCounts`.
    """

    def __init__(self, info: PodInfo, cluster: ClusterState) -> None:
        self._info = info
        self._spec = info.pod["spec"]
        self._constraints = constraints_of(info.pod, "DoNotSchedule")
        self._counts: list[dict[str, int]] = [{} for _ in self._constraints]
        if not self._constraints:
            return
        for state in cluster.states():
            labels = labels_of(state.node)
            if not self._has_all_labels(labels):
                continue
            for constraint, counts in zip(self._constraints, self._counts, strict=True):
                if constraint.includes(self._spec, state.node):
                    value = labels[constraint.topology_key]
                    counts[value] = counts.get(value, 0) + constraint.count(state.groups, info.namespace)

    def _has_all_labels(self, labels: dict[str, str]) -> bool:
        return all(one.topology_key in labels for one in self._constraints)

    def update(self, other: PodInfo, node: Object, sign: int) -> None:
        """Count a pod on a node (sign 1), or stop counting it (sign -1)."""
        if not self._constraints or other.namespace != self._info.namespace or other.terminating:
            return
        labels = labels_of(node)
        if not self._has_all_labels(labels):
            return
        for constraint, counts in zip(self._constraints, self._counts, strict=True):
            if constraint.selects(other.group) and constraint.includes(self._spec, node):
                value = labels[constraint.topology_key]
                counts[value] = counts.get(value, 0) + sign

    def refusal(self, state: NodeState) -> str:
        """Return why the node does not satisfy the constraints, "" when it does."""
        labels = labels_of(state.node)
        for constraint, counts in zip(self._constraints, self._counts, strict=True):
            value = labels.get(constraint.topology_key)
            if value is None:
                return MISSING_LABEL
            least = min(counts.values(), default=0) if len(counts) >= constraint.least_domains else 0
            own = constraint.selects(self._info.group)
            if counts.get(value, 0) + own - least > constraint.max_skew:
                return MISMATCH
        return ""


def spread_scores(
    info: PodInfo, cluster: ClusterState, nodes: list[NodeState], default_selector: Object | None
) -> dict[str, int] | None:
    """Return the score of each node, 0 to 100, by its name (`scoring.go`); None without a preference.

    default_selector: see `default_constraints`.
    """
    spec = info.pod["spec"]
    own = bool(spec.get("topologySpreadConstraints"))
    constraints = constraints_of(info.pod, "ScheduleAnyway") if own else default_constraints(default_selector)
    if not constraints:
        return None
    # The default constraints also spread pods over nodes that have no zone.
    usable = [one for one in nodes if not own or all(c.topology_key in labels_of(one.node) for c in constraints)]
    totals = dict.fromkeys((one.name for one in usable), 0.0)
    for constraint in constraints:
        _add_scores(totals, constraint, info, cluster, usable)
    found = {name: round(total) for name, total in totals.items()}
    least, most = min(found.values(), default=0), max(found.values(), default=0)
    return {
        one.name: (100 * (most + least - found[one.name]) // most if most else 100) if one.name in found else 0
        for one in nodes
    }


def _add_scores(
    totals: dict[str, float], constraint: Constraint, info: PodInfo, cluster: ClusterState, usable: list[NodeState]
) -> None:
    """Add to `scores` the number of pods in each node's domain of one constraint."""
    key, spec = constraint.topology_key, info.pod["spec"]
    counts: dict[str, int] = {}
    if key == _HOSTNAME:
        size = len(usable)
    else:
        counts = {labels_of(one.node)[key]: 0 for one in usable if key in labels_of(one.node)}
        size = len(counts)
        for state in cluster.states():
            value = labels_of(state.node).get(key)
            if value in counts and constraint.includes(spec, state.node):
                counts[value] += constraint.count(state.groups, info.namespace)
    weight = math.log(size + 2)
    for one in usable:
        value = labels_of(one.node).get(key)
        if value is not None:
            count = constraint.count(one.groups, info.namespace) if key == _HOSTNAME else counts[value]
            totals[one.name] += count * weight + constraint.max_skew - 1
