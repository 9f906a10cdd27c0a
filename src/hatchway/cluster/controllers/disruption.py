"""Computes how many pods each PodDisruptionBudget allows to be evicted now (`disruption/disruption.go`).

The API server reads this number when a pod is to be evicted, and notes each evicted pod in the budget's status.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import selected, selectors_for
from hatchway.cluster.controllers.objectfields import (
    controller_of,
    is_deleting,
    labels_of,
    parse_time,
    set_condition,
    uid_of,
)
from hatchway.cluster.controllers.rollout import resolve_percentage
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_ready
from hatchway.kube.selectors import selector_matches

RESOURCE = "poddisruptionbudgets.policy"
# An evicted pod that still exists after this time counts as healthy again.
_DELETION_TIMEOUT = timedelta(minutes=2)


@dataclass(slots=True)
class BudgetCount:
    """The numbers of a budget's status.

    expected: the number of pods that should exist.
    healthy: the number of pods that are ready.
    desired: the number of pods that must stay healthy.
    disrupted: the evicted pods, with the times of their eviction.
    stale: the evicted pods that still exist too long after their eviction.
    again: seconds until the next evicted pod is stale; None for never.
    """

    expected: int
    healthy: int
    desired: int
    disrupted: dict[str, str] = field(default_factory=dict)
    stale: list[Object] = field(default_factory=list)
    again: float | None = None

    @property
    def allowed(self) -> int:
        """Return how many pods may be evicted now; 0 while no pods are expected."""
        return max(0, self.healthy - self.desired) if self.expected > 0 else 0


def count_budget(budget: Object, pods: list[Object], scale: int, now: datetime) -> BudgetCount:
    """Return the counts of a budget.

    pods: the pods that the budget selects.
    scale: the sum of the sizes of the pods' controllers.
    """
    spec = budget["spec"]
    most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
    if most is not None:
        expected, desired = scale, max(0, scale - resolve_percentage(most, scale, up=True))
    elif isinstance(least, str):
        expected, desired = scale, resolve_percentage(least, scale, up=True)
    else:
        expected, desired = len(pods), least or 0
    found = BudgetCount(expected, 0, desired)
    known = (budget.get("status") or {}).get("disruptedPods") or {}
    for pod in pods:
        if is_deleting(pod):
            continue
        name = pod["metadata"]["name"]
        since = parse_time(known.get(name))
        if since is not None:
            left = (since + _DELETION_TIMEOUT - now).total_seconds()
            if left > 0:
                found.disrupted[name] = known[name]
                found.again = left if found.again is None else min(found.again, left)
                continue
            found.stale.append(pod)
        found.healthy += is_ready(pod)
    return found


class DisruptionController(Controller):
    """Writes the statuses of PodDisruptionBudgets."""

    name = "disruption-controller"
    workers = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.budgets = context.cache(RESOURCE)
        self.pods = context.cache("pods")
        self.scalable = {key: context.cache(resource) for key, resource in context.config.scalable.items()}
        self.types = context.config.types
        self.events = context.recorder("controllermanager")
        self.budgets.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._pod_changed)

    def _pod_changed(self, _kind: str, pod: Object, before: Object | None) -> None:
        for seen in (pod, before):
            for budget in selectors_for(self.budgets, seen) if seen is not None else ():
                if selector_matches(budget["spec"].get("selector") or {}, labels_of(seen or {})):
                    self.enqueue(budget)

    async def reconcile(self, key: Key) -> float | None:
        """Write the status of the budget `key`. Return the seconds until an evicted pod is stale, or None."""
        budget = self.budgets.get(key)
        if budget is None:
            return None
        selector = budget["spec"].get("selector")
        pods = [] if selector is None else selected(self.pods, key[0], selector)
        if not pods:
            self.events.event(budget, "Normal", "NoPods", "No matching pods found")
        scale, problem = await self._scale(budget, pods)
        if problem:
            text = f"Failed to calculate the number of expected pods: {problem}"
            self.events.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
            await self._write(budget, {**(budget.get("status") or {}), "disruptionsAllowed": 0}, "SyncFailed", problem)
            return None
        found = count_budget(budget, pods, scale, self.context.now())
        for _ in found.stale:
            text = f"Pod was expected by PDB {key[0]}/{key[1]} to be deleted but it wasn't"
            self.events.event(budget, "Warning", "NotDeleted", text)
        status: Object = {
            "observedGeneration": budget["metadata"].get("generation", 0),
            "disruptionsAllowed": found.allowed,
            "currentHealthy": found.healthy,
            "desiredHealthy": found.desired,
            "expectedPods": found.expected,
            "conditions": (budget.get("status") or {}).get("conditions") or [],
        }
        if found.disrupted:
            status["disruptedPods"] = found.disrupted
        await self._write(budget, status, "SufficientPods" if found.allowed else "InsufficientPods", "")
        return found.again

    async def _scale(self, budget: Object, pods: list[Object]) -> tuple[int, str]:
        """Return (the sum of the sizes of the pods' controllers, ""), or (0, the reason) when a size is not known."""
        spec = budget["spec"]
        if spec.get("maxUnavailable") is None and not isinstance(spec.get("minAvailable"), str):
            return 0, ""
        sizes: dict[str, int] = {}
        for pod in pods:
            ref = controller_of(pod)
            if ref is None or ref["uid"] in sizes:
                continue
            owner = self._controller_of(pod)
            if owner is not None:
                above = owner
                if (controller_of(owner) or {}).get("kind") == "Deployment":
                    above = self._controller_of(owner) or owner
                sizes.setdefault(uid_of(above), above["spec"].get("replicas", 1))
                continue
            size, problem = await self._custom_scale(ref, pod)
            if problem:
                return 0, problem
            sizes[ref["uid"]] = size
        return sum(sizes.values()), ""

    async def _custom_scale(self, ref: Object, pod: Object) -> tuple[int, str]:
        """Return (spec.replicas of a controller's Scale, ""); (0, the reason) without a Scale (getScaleController)."""
        api_version, kind = str(ref.get("apiVersion", "")), ref["kind"]
        served = self.types.find(api_version.rpartition("/")[0], kind)
        if served is None:
            return 0, f'no matches for kind "{kind}" in version "{api_version}"'
        try:
            scale = await self.client.get(
                served.resource, ref["name"], pod["metadata"]["namespace"], subresource="scale"
            )
        except ApiError as error:
            if error.code != 404:
                return 0, error.message
            if not (error.details or {}).get("name"):
                return 0, f"{served.resource} does not implement the scale subresource"
            scale = {}
        if (scale.get("metadata") or {}).get("uid") != ref["uid"]:
            return 0, f'found no controllers for pod "{pod["metadata"]["name"]}"'
        return (scale.get("spec") or {}).get("replicas") or 0, ""

    def _controller_of(self, obj: Object) -> Object | None:
        """Return the scalable controller of an object, None when it has none."""
        ref = controller_of(obj)
        if ref is None:
            return None
        cache = self.scalable.get((str(ref.get("apiVersion", "")).rpartition("/")[0], ref["kind"]))
        found = cache.get((obj["metadata"]["namespace"], ref["name"])) if cache is not None else None
        return found if found is not None and uid_of(found) == ref["uid"] else None

    async def _write(self, budget: Object, status: Object, reason: str, message: str) -> None:
        condition = {
            "type": "DisruptionAllowed",
            "status": str(reason == "SufficientPods"),
            "reason": reason,
            "message": message,
            "observedGeneration": budget["metadata"].get("generation", 0),
        }
        status["conditions"] = set_condition(status.get("conditions") or (), condition, self.context.now())
        if status == (budget.get("status") or {}):
            return
        try:
            written = await self.client.update(RESOURCE, {**budget, "status": status}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self.budgets.wait_for_write(written)
