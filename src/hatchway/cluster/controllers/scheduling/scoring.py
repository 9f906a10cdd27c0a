"""The scores, which rank the nodes that can run a pod (kube-scheduler's `framework/plugins`). Pure.

The plugins and their weights are the defaults of kube-scheduler (`apis/config/v1/default_plugins.go`), without
ImageLocality, because all nodes share one store of images.
"""

from __future__ import annotations

from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState, NodeState
from hatchway.cluster.controllers.scheduling.nodeselection import node_preference
from hatchway.cluster.controllers.scheduling.podaffinity import affinity_scores
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.cluster.controllers.scheduling.spreading import spread_scores
from hatchway.cluster.controllers.scheduling.tolerations import count_intolerable
from hatchway.kube.api import Object

__all__ = ["best_node", "node_scores"]

_TAINTS, _NODE_AFFINITY, _POD_AFFINITY, _SPREAD, _LEAST_ALLOCATED, _BALANCED = 3, 2, 2, 2, 1, 1
_RESOURCES = ("cpu", "memory")


def node_scores(
    info: PodInfo, cluster: ClusterState, nodes: list[NodeState], default_selector: Object | None = None
) -> dict[str, int]:
    """Return the weighted sum of all scores of each node, by its name.

    nodes: the nodes that can run the pod.
    default_selector: see `spreading.default_constraints`.
    """
    spec = info.pod["spec"]
    totals = {one.name: _least_allocated(info, one) * _LEAST_ALLOCATED for one in nodes}
    if any(info.requests.get(resource) for resource in _RESOURCES):
        for one in nodes:
            totals[one.name] += _balanced(info, one) * _BALANCED
    unwanted = {one.name: _unwanted(spec, one) for one in nodes}
    wanted = {one.name: node_preference(spec, one.node) for one in nodes}
    _add(totals, {name: 100 - score for name, score in _normalized(unwanted).items()}, _TAINTS)
    _add(totals, _normalized(wanted), _NODE_AFFINITY)
    _add(totals, spread_scores(info, cluster, nodes, default_selector), _SPREAD)
    _add(totals, affinity_scores(info, cluster, nodes), _POD_AFFINITY)
    return totals


def best_node(
    info: PodInfo, cluster: ClusterState, nodes: list[NodeState], default_selector: Object | None = None
) -> NodeState:
    """Return the node with the highest score.

    Among nodes with the same score, Kubernetes chooses at random. This function chooses the node with the fewest pods
    of the same owner; among these, the least loaded one.
    """
    if len(nodes) == 1:
        return nodes[0]
    totals = node_scores(info, cluster, nodes, default_selector)
    most = max(totals.values())
    equal = [one for one in nodes if totals[one.name] == most]
    if len(equal) == 1:
        return equal[0]
    return min(equal, key=lambda one: (_siblings(info, one), _load(one), len(one.pods), one.name))


def _add(totals: dict[str, int], scores: dict[str, int] | None, weight: int) -> None:
    for name, score in (scores or {}).items():
        totals[name] += score * weight


def _normalized(scores: dict[str, int]) -> dict[str, int]:
    """Return the scores scaled so that the highest one is 100 (`DefaultNormalizeScore`)."""
    most = max(scores.values(), default=0)
    return {name: 100 * score // most for name, score in scores.items()} if most else scores


def _unwanted(spec: Object, state: NodeState) -> int:
    return count_intolerable(state.node["spec"].get("taints") or (), spec.get("tolerations") or ())


def _least_allocated(info: PodInfo, state: NodeState) -> int:
    """Return the share of cpu and memory that would still be free with the pod, 0 to 100 (`least_allocated.go`)."""
    shares = []
    for resource in _RESOURCES:
        room = state.allocatable(resource) or 0
        if room:
            asked = state.load[resource] + info.load[resource]
            shares.append(max(0, room - asked) * 100 // room)
    return sum(shares) // len(shares) if shares else 0


def _balanced(info: PodInfo, state: NodeState) -> int:
    """Return how similar the used shares of cpu and memory are with the pod, 0 to 100 (`balanced_allocation.go`)."""
    shares = []
    for resource in _RESOURCES:
        room = state.allocatable(resource) or 0
        if room:
            shares.append(min(1.0, (state.used[resource] + info.requests.get(resource, 0)) / room))
    # The standard deviation of two values is half of their difference.
    deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
    return int((1 - deviation) * 100)


def _siblings(info: PodInfo, state: NodeState) -> int:
    return sum(one.owner == info.owner for one in state.pods.values())


def _load(state: NodeState) -> float:
    shares = [state.load[resource] / room for resource in _RESOURCES if (room := state.allocatable(resource) or 0) > 0]
    return sum(shares) / len(shares) if shares else 0.0
