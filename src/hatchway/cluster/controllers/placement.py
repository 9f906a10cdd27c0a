"""Chooses a node for a pod, or returns why no node fits (kube-scheduler's `schedule_one.go`). Pure.

The filters, the scores and preemption are in `scheduling/`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState
from hatchway.cluster.controllers.scheduling.filters import NodeFilter, NodeRefusal, PodFilters
from hatchway.cluster.controllers.scheduling.nodeselection import selection_terms
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.cluster.controllers.scheduling.preemption import Preemption, find_preemption
from hatchway.cluster.controllers.scheduling.scoring import best_node
from hatchway.kube.api import Object

__all__ = ["Decision", "choose", "work_of"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The result for one pod.

    node: the node's name; "" when no node fits.
    message: why no node fits.
    plugins: the filters that refused nodes.
    preemption: the result of preemption, when no node fits.
    """

    node: str = ""
    message: str = ""
    plugins: frozenset[str] = frozenset()
    preemption: Preemption = field(default_factory=Preemption)


def choose(
    info: PodInfo,
    cluster: ClusterState,
    *,
    default_selector: Object | None = None,
    budgets: Iterable[Object] = (),
    problem: str = "",
    further: tuple[NodeFilter, ...] = (),
) -> Decision:
    """Choose a node for a pod. If no node fits, look for pods to preempt.

    default_selector: the selector of the pod's Services and controller (`spreading.default_constraints`).
    budgets: all PodDisruptionBudgets.
    problem: why the pod cannot run on any node (`PreFilter`); "" when it may.
    further: more filters (`filters.NodeFilter`).
    """
    if not cluster.nodes:
        return Decision(message="no nodes available to schedule pods", plugins=frozenset(("NodeAffinity",)))
    filters = PodFilters(info, cluster, further)
    nowhere = problem or filters.conflict
    if nowhere:
        plugin = "PreFilter" if problem else "NodeAffinity"
        refused = dict.fromkeys(cluster.nodes, NodeRefusal(plugin, (nowhere,), False))
        preemption = find_preemption(filters, cluster, refused, ())
        return Decision("", _message(len(cluster.nodes), nowhere, preemption), frozenset((plugin,)), preemption)
    refused = {}
    fitting = []
    # The node on which other pods were preempted for this pod is tried first (`evaluateNominatedNode`).
    nominated = cluster.nodes.get(cluster.nominated_node(info.key))
    if nominated is not None and filters.refusal(nominated) is None:
        return Decision(nominated.name)
    for state in cluster.states():
        refusal = filters.refusal(state)
        if refusal is None:
            fitting.append(state)
        else:
            refused[state.name] = refusal
    if fitting:
        return Decision(best_node(info, cluster, fitting, default_selector).name)
    preemption = find_preemption(filters, cluster, refused, budgets)
    plugins = frozenset(one.plugin for one in refused.values())
    return Decision("", _message(len(cluster.nodes), _histogram(refused), preemption), plugins, preemption)


def _histogram(refused: Mapping[str, NodeRefusal]) -> str:
    reasons = Counter(reason for one in refused.values() for reason in one.reasons)
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))


def _message(nodes: int, why: str, preemption: Preemption) -> str:
    """Return the message of `FitError`."""
    found = f"0/{nodes} nodes are available: {why}."
    return f"{found} preemption: {preemption.message}" if preemption.message else found


def work_of(info: PodInfo, cluster: ClusterState) -> int:
    """Estimate the number of comparisons that a decision about a pod takes.

    Each affinity term of the pod is compared with every other pod. Each affinity term of another pod is compared with
    this pod. Preemption tries to remove the pods of lower priority, one by one.
    """
    spread = len(info.pod["spec"].get("topologySpreadConstraints") or ())
    own = (info.terms + spread) * cluster.pods + cluster.terms + selection_terms(info.pod["spec"]) * len(cluster.nodes)
    below = cluster.below(info.priority)
    if not below:
        return own
    # For each pod that preemption tries to remove, the filters run again, with all nominated pods.
    each = 15 + info.terms + spread + selection_terms(info.pod["spec"]) * (1 + spread) + cluster.nominations
    return own + below * each + 4 * cluster.terms
