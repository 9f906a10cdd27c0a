"""Chooses a pod's node, and says why none fits (kube-scheduler's `schedule_one.go`). Pure.

`scheduling/` has the filters, the scores and preemption.
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

    node: its name, "" when no node fits. message: why none fits. plugins: the filters that refused. preemption: what
    preemption would change, when no node fits.
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
    """Return the node for a pod, or why there is none, and what preemption would change.

    default_selector: what the pod's Services and its controller select (`spreading.default_constraints`). budgets: all
    PodDisruptionBudgets. problem: why the pod can run nowhere (`PreFilter`), "" when it may. further: more filters
    (`filters.NodeFilter`).
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
    # The node for which others were preempted comes first (`evaluateNominatedNode`).
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
    """Return about how many comparisons a decision about a pod takes.

    Each of the pod's terms is compared with every pod, each term of another pod with this pod. For preemption, pods of
    lower priority are taken away one by one.
    """
    spread = len(info.pod["spec"].get("topologySpreadConstraints") or ())
    own = (info.terms + spread) * cluster.pods + cluster.terms + selection_terms(info.pod["spec"]) * len(cluster.nodes)
    below = cluster.below(info.priority)
    if not below:
        return own
    # Each pod that is taken away is tried with the filters, and with all pods that are nominated; its own terms are
    # compared each time.
    each = 15 + info.terms + spread + selection_terms(info.pod["spec"]) * (1 + spread) + cluster.nominations
    return own + below * each + 4 * cluster.terms
