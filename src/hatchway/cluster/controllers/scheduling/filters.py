"""The filters: which nodes can run a pod, and why others cannot (kube-scheduler's `framework/plugins`). Pure.

The filters, their order and their messages are those of the plugins nodeunschedulable, nodename, tainttoleration,
nodeaffinity, nodeports, noderesources, podtopologyspread and interpodaffinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState, NodeState
from hatchway.cluster.controllers.scheduling.nodeselection import named_nodes, node_selected
from hatchway.cluster.controllers.scheduling.podaffinity import AFFINITY, AffinityCounts
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.cluster.controllers.scheduling.spreading import MISSING_LABEL, SpreadCounts
from hatchway.cluster.controllers.scheduling.tolerations import tolerated, untolerated
from hatchway.cluster.hostports import ports_clash
from hatchway.kube.api import Object
from hatchway.kube.objects import is_ready
from hatchway.kube.wellknown import NOT_READY, UNSCHEDULABLE

__all__ = ["NodeFilter", "NodeRefusal", "PodFilters", "node_refusal"]

_NOT_READY_TAINT = {"key": NOT_READY, "effect": "NoSchedule"}
_UNSCHEDULABLE_TAINT = {"key": UNSCHEDULABLE, "effect": "NoSchedule"}
_TAINTED = "node(s) had untolerated taint(s)"


class NodeRefusal(NamedTuple):
    """Why a node cannot run a pod.

    plugin: the name of the Kubernetes plugin with this filter.
    reasons: kube-scheduler's messages.
    resolvable: True if preemption of other pods may help (`Unschedulable`, not `UnschedulableAndUnresolvable`).
    """

    plugin: str
    reasons: tuple[str, ...]
    resolvable: bool


# A further filter. It returns why this node cannot run the pod, or None. It may be called on another thread.
NodeFilter = Callable[[Object, Object], NodeRefusal | None]


class PodFilters:
    """All filters for one pod (`PreFilter` and `Filter`).

    further: filters of other parts of the cluster. They run after the filter for the node's resources.
    """

    def __init__(self, info: PodInfo, cluster: ClusterState, further: tuple[NodeFilter, ...] = ()) -> None:
        self.info = info
        self._further = further
        self._names = named_nodes(info.pod["spec"])
        self._spread = SpreadCounts(info, cluster)
        self._affinity = AffinityCounts(info, cluster)

    @property
    def conflict(self) -> str:
        """Return why no node can run the pod; "" when the nodes must be checked."""
        return "pod affinity terms conflict" if self._names is not None and not self._names else ""

    def refusal(self, state: NodeState) -> NodeRefusal | None:
        """Return why the pod cannot run on this node; None when it can.

        Pods that are nominated to the node are also counted, unless their priority is lower
        (`RunFilterPluginsWithNominatedPods`).
        """
        important = [
            one
            for one in state.nominated.values()
            if one.priority >= self.info.priority and one.key != self.info.key and one.key not in state.pods
        ]
        if important:
            crowded = state.copy()
            for one in important:
                crowded.add(one)
                self.update(one, state, 1)
            found = self._check(crowded)
            for one in important:
                self.update(one, state, -1)
            if found is not None:
                return found
        return self._check(state)

    def update(self, other: PodInfo, state: NodeState, sign: int) -> None:
        """Count another pod on a node (sign 1), or stop counting it (sign -1)."""
        self._spread.update(other, state.node, sign)
        self._affinity.update(other, state.node, sign)

    def _check(self, state: NodeState) -> NodeRefusal | None:
        if self._names is not None and state.name not in self._names:
            return NodeRefusal("NodeAffinity", ("node(s) didn't satisfy plugin(s) [NodeAffinity]",), False)
        refused = node_refusal(self.info, state)
        for ask in self._further:
            refused = refused or ask(self.info.pod, state.node)
        if refused is not None:
            return refused
        reason = self._spread.refusal(state)
        if reason:
            return NodeRefusal("PodTopologySpread", (reason,), reason != MISSING_LABEL)
        reason = self._affinity.refusal(state)
        return NodeRefusal("InterPodAffinity", (reason,), reason != AFFINITY) if reason else None


def node_refusal(info: PodInfo, state: NodeState) -> NodeRefusal | None:
    """Return why the pod cannot run on this node; None when it can. Pods on other nodes are not considered."""
    node, spec = state.node, info.pod["spec"]
    tolerations = spec.get("tolerations") or ()
    if node["spec"].get("unschedulable") and not tolerated(_UNSCHEDULABLE_TAINT, tolerations):
        return NodeRefusal("NodeUnschedulable", ("node(s) were unschedulable",), False)
    if untolerated(node["spec"].get("taints") or (), tolerations, ("NoSchedule", "NoExecute")) is not None:
        return NodeRefusal("TaintToleration", (_TAINTED,), False)
    # Kubernetes checks only the taint, which the node lifecycle controller adds slightly after the node becomes not
    # ready.
    if not is_ready(node) and not tolerated(_NOT_READY_TAINT, tolerations):
        return NodeRefusal("TaintToleration", (_TAINTED,), False)
    if not node_selected(spec, node):
        return NodeRefusal("NodeAffinity", ("node(s) didn't match Pod's node affinity/selector",), False)
    if info.ports and ports_clash(info.ports, state.ports):
        return NodeRefusal("NodePorts", ("node(s) didn't have free ports for the requested pod ports",), True)
    return _lacking(info, state)


def _lacking(info: PodInfo, state: NodeState) -> NodeRefusal | None:
    """Return which resources the node lacks (`fitsRequest`)."""
    reasons, resolvable = [], True
    room = state.allocatable("pods")
    if room is not None and len(state.pods) + 1 > room:
        reasons.append("Too many pods")
    for resource, amount in sorted(info.requests.items()):
        if not amount:
            continue
        room = state.allocatable(resource)
        if room is not None and state.used[resource] + amount > room:
            reasons.append(f"Insufficient {resource}")
            # If the pod requests more than the whole node has, preemption does not help.
            resolvable = resolvable and amount <= room
    return NodeRefusal("NodeResourcesFit", tuple(reasons), resolvable) if reasons else None
