"""Finds pods of lower priority to delete so that a pod fits (kube-scheduler's `defaultpreemption`). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState, NodeState
from hatchway.cluster.controllers.scheduling.filters import NodeRefusal, PodFilters
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition
from hatchway.kube.selectors import selector_is_empty, selector_matches

__all__ = ["PREEMPTED", "Preemption", "find_preemption"]

# The reason of the condition DisruptionTarget.
PREEMPTED = "PreemptionByScheduler"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_NOT_HELPFUL = "Preemption is not helpful for scheduling"
_INT32_RANGE = 2**31


@dataclass(frozen=True, slots=True)
class Preemption:
    """The result: a node and its victims, which are the pods to delete; or why there is no such node.

    node: the node's name; "" for none. message: why there is none.
    victims: sorted by importance, the most important pod first.
    clear: True if the pod's nomination must be removed.
    budgets_broken: the number of victims whose deletion violates a PodDisruptionBudget.
    """

    node: str = ""
    victims: tuple[PodInfo, ...] = ()
    budgets_broken: int = 0
    message: str = ""
    clear: bool = False


def find_preemption(
    filters: PodFilters,
    cluster: ClusterState,
    refused: Mapping[str, NodeRefusal],
    budgets: Iterable[Object],
) -> Preemption:
    """Return which pods to delete for a pod that fits on no node (`Evaluator.Preempt`).

    refused: why each node cannot run the pod, by the nodes' names.
    budgets: all PodDisruptionBudgets.
    """
    why_not = _not_eligible(filters.info, cluster, refused)
    if why_not:
        return Preemption(message=why_not)
    allowed = list(budgets)
    candidates: list[Preemption] = []
    reasons: Counter[str] = Counter()
    for state in cluster.states():
        refusal = refused.get(state.name)
        if refusal is None or not refusal.resolvable:
            reasons[_NOT_HELPFUL] += 1
            continue
        found = _victims_on(state, filters, allowed)
        if isinstance(found, Preemption):
            candidates.append(found)
        else:
            reasons.update(found)
    if not candidates:
        listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        return Preemption(message=f"0/{len(cluster.nodes)} nodes are available: {listed}.", clear=True)
    return min(candidates, key=_cost)


def _not_eligible(info: PodInfo, cluster: ClusterState, refused: Mapping[str, NodeRefusal]) -> str:
    """Return why the pod may not preempt other pods now; "" when it may (`PodEligibleToPreemptOthers`)."""
    if info.pod["spec"].get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    nominated = (info.pod.get("status") or {}).get("nominatedNodeName") or cluster.nominated_node(info.key)
    state = cluster.nodes.get(nominated)
    if state is None or (nominated in refused and not refused[nominated].resolvable):
        return ""
    if any(one.priority < info.priority and _is_being_preempted(one) for one in state.pods.values()):
        return "not eligible due to a terminating pod on the nominated node."
    return ""


def _is_being_preempted(info: PodInfo) -> bool:
    condition = get_condition(info.pod, "DisruptionTarget") or {}
    return info.terminating and condition.get("status") == "True" and condition.get("reason") == PREEMPTED


def _victims_on(state: NodeState, filters: PodFilters, budgets: list[Object]) -> Preemption | tuple[str, ...]:
    """Return which pods to delete from one node, or why the pod cannot run there anyway (`SelectVictimsOnNode`)."""
    info = filters.info
    possible = [one for one in state.pods.values() if one.priority < info.priority]
    if not possible:
        return (_NO_VICTIMS,)
    trial = state.copy()
    counted = {one.key for one in possible}

    def move(other: PodInfo, sign: int) -> None:
        (trial.add if sign > 0 else trial.remove)(other)
        filters.update(other, trial, sign)
        (counted.add if sign > 0 else counted.discard)(other.key)

    try:
        for one in possible:
            move(one, -1)
        refusal = filters.refusal(trial)
        if refusal is not None:
            return refusal.reasons
        possible.sort(key=_importance)
        violating, others = _split_by_budget(possible, budgets)
        victims, broken = [], 0
        # First try to keep the pods whose deletion violates a budget.
        for index, one in enumerate([*violating, *others]):
            move(one, 1)
            if filters.refusal(trial) is not None:
                move(one, -1)
                victims.append(one)
                broken += index < len(violating)
        if not victims:
            return (_NO_VICTIMS,)
        return Preemption(state.name, tuple(sorted(victims, key=_importance)), broken)
    finally:
        for one in possible:
            if one.key not in counted:
                filters.update(one, trial, 1)


def _importance(info: PodInfo) -> tuple[int, str, str]:
    """Return the sort key that puts the most important pod first (`MoreImportantPod`): priority, then age."""
    return -info.priority, _start(info), info.key[1]


def _start(info: PodInfo) -> str:
    status = info.pod.get("status") or {}
    return str(status.get("startTime") or info.pod["metadata"].get("creationTimestamp") or "~")


def _split_by_budget(infos: list[PodInfo], budgets: list[Object]) -> tuple[list[PodInfo], list[PodInfo]]:
    """Return (the pods whose deletion violates a budget, the other pods) (`filterPodsWithPDBViolation`)."""
    left = [(budget.get("status") or {}).get("disruptionsAllowed", 0) for budget in budgets]
    violating: list[PodInfo] = []
    others: list[PodInfo] = []
    for info in infos:
        is_violated = False
        for index, budget in enumerate(budgets if info.labels else ()):
            selector = budget["spec"].get("selector")
            if budget["metadata"]["namespace"] != info.namespace or selector_is_empty(selector):
                continue
            known = (budget.get("status") or {}).get("disruptedPods") or {}
            if info.key[1] in known or not selector_matches(selector, info.labels):
                continue
            left[index] -= 1
            is_violated = is_violated or left[index] < 0
        (violating if is_violated else others).append(info)
    return violating, others


class _ReverseOrder(str):
    """A text that sorts in the opposite order."""

    def __lt__(self, other: str) -> bool:
        return str(other) < str(self)


def _cost(found: Preemption) -> tuple[int, int, int, int, _ReverseOrder]:
    """Return the sort key that puts the best candidate first (`pickOneNodeForPreemption`)."""
    highest = found.victims[0].priority
    earliest = min(_start(one) for one in found.victims if one.priority == highest)
    return (
        found.budgets_broken,
        highest,
        sum(one.priority + _INT32_RANGE for one in found.victims),
        len(found.victims),
        _ReverseOrder(earliest),
    )
