"""Evictions (POST pods/NAME/eviction): a DELETE that PodDisruptionBudgets may refuse.

The rules are those of `pkg/registry/core/pod/storage/eviction.go`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.operations import deletion
from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.requestoptions import DeleteOptions
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.selectors import label_selector_matches
from hatchway.errors import ApiError, forbidden
from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition, is_finished, is_ready

__all__ = ["evict_pod"]

_BUDGETS = "poddisruptionbudgets.policy"
_VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
_TWO_BUDGETS = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
_MAX_DISRUPTED = 2000
_RETRY_SECONDS = 10


async def evict_pod(api: Api, request: Operation, pod: Object, options: DeleteOptions) -> None:
    """Delete a pod if its budget allows it, and count the disruption in the budget's status.

    Raises ApiError: 403 (the budget's status is not valid), 409 (a precondition fails), 429 (the budget forbids it),
    500 (the pod has two budgets).
    """
    deletion.check_preconditions(request.row, pod, options)
    if not (is_finished(pod) or pod["metadata"].get("deletionTimestamp") or _is_pending(pod)):
        budgets = _budgets_of(api, pod)
        if len(budgets) > 1:
            raise ApiError(500, "", _TWO_BUDGETS)
        if budgets:
            await _take(api, pod, budgets[0], dry_run=options.dry_run)
    if not options.dry_run:
        await _mark(api, request)
    # The resourceVersion is no precondition here: it was checked above, and `_mark` has changed it.
    await deletion.delete(
        api,
        request,
        DeleteOptions(options.grace_period, options.propagation, None, options.uid, "", options.dry_run),
        admitted=True,
    )


def _is_pending(pod: Object) -> bool:
    return bool((pod.get("status") or {}).get("phase", "Pending") == "Pending")


def _budgets_of(api: Api, pod: Object) -> list[Object]:
    row = api.registry.by_name(_BUDGETS)
    labels = pod["metadata"].get("labels") or {}
    if row is None or not labels:
        return []
    found = []
    namespace = pod["metadata"]["namespace"]
    for budget in api.store.list(row.stored_as, namespace):
        # Another eviction may have changed the budget. That change need not be committed yet.
        latest = api.store.latest(row.stored_as, namespace, budget["metadata"]["name"])
        selector = latest["spec"].get("selector") if latest is not None else None
        if latest is not None and selector is not None and label_selector_matches(selector, labels):
            found.append(latest)
    return found


async def _take(api: Api, pod: Object, budget: Object, *, dry_run: bool) -> None:
    """Use one of a budget's allowed disruptions. Raises ApiError 403 or 429."""
    metadata = budget["metadata"]
    name, status = metadata["name"], budget.get("status") or {}
    if not is_ready(pod):
        # In the next two cases, the eviction of a pod that is not ready does not count as a disruption.
        desired = status.get("desiredHealthy", 0)
        if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
            return
        if desired > 0 and status.get("currentHealthy", 0) >= desired:
            return
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        raise _refused(f"The disruption budget {name} is still being processed by the server.", _RETRY_SECONDS)
    allowed, disrupted = status.get("disruptionsAllowed", 0), status.get("disruptedPods") or {}
    if allowed < 0:
        raise forbidden("poddisruptionbudget", name, "pdb disruptions allowed is negative", "policy")
    if len(disrupted) > _MAX_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise forbidden("poddisruptionbudget", name, why, "policy")
    if allowed == 0:
        raise _refused(_why_not(budget))
    if dry_run:
        return
    new = clone(budget)
    new["status"]["disruptionsAllowed"] = allowed - 1
    new["status"]["disruptedPods"] = {**disrupted, pod["metadata"]["name"]: meta.timestamp()}
    if allowed == 1:
        for condition in new["status"].get("conditions") or ():
            if condition.get("type") == "DisruptionAllowed":
                condition |= {"status": "False", "reason": "InsufficientPods", "lastTransitionTime": meta.timestamp()}
    await api.store.update(_BUDGETS, new, budget)


def _why_not(budget: Object) -> str:
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    condition = get_condition(budget, "DisruptionAllowed") or {}
    message = condition.get("message") if condition.get("status") == "False" else ""
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if message and condition.get("reason") == "SyncFailed":
        return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
    if healthy <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    if message:
        reason = condition.get("reason", "")
        return f"The disruption budget {name} does not allow evicting pods currently ({reason}): {message}"
    return f"The disruption budget {name} does not allow evicting pods currently"


def _refused(message: str, seconds: int = 0) -> ApiError:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": message}]}
    if seconds:
        details["retryAfterSeconds"] = seconds
    return ApiError(429, "TooManyRequests", _VIOLATES, details)


async def _mark(api: Api, request: Operation) -> None:
    """Add the condition by which controllers distinguish an eviction from a failure."""
    pod = api.store.latest(request.row.stored_as, request.namespace, request.name)
    if pod is None:
        return
    new = clone(pod)
    status = new.setdefault("status", {})
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": meta.timestamp(),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    others = [one for one in status.get("conditions") or () if one.get("type") != condition["type"]]
    status["conditions"] = [*others, condition]
    await api.store_change(request, new, pod)
