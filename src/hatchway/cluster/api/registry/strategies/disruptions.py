"""PodDisruptionBudgets (policy/v1): validation (`pkg/apis/policy/validation`)."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.workloads import validate_share
from hatchway.errors import Cause
from hatchway.kube.api import Object

_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


class PodDisruptionBudgetStrategy(Strategy):
    """PodDisruptionBudgets."""

    requires_spec = True
    generation = True

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set the status so that no disruption is allowed until the controller has counted the pods."""
        obj["status"] = dict.fromkeys(_COUNTS, 0)

    def validate(self, obj: Object) -> list[Cause]:
        """Return all errors in a PodDisruptionBudget."""
        spec, causes = obj["spec"], []
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            causes.append(v.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
        for key in ("minAvailable", "maxUnavailable"):
            if spec.get(key) is not None:
                causes += validate_share(spec[key], f"spec.{key}", at_most_all=True)
        causes += v.label_selector(spec.get("selector"), "spec.selector")
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None and policy not in _POLICIES:
            causes.append(v.not_supported("spec.unhealthyPodEvictionPolicy", policy, _POLICIES))
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the counts of the status."""
        causes = []
        for key in _COUNTS:
            causes += v.non_negative((obj.get("status") or {}).get(key), f"status.{key}")
        return causes
