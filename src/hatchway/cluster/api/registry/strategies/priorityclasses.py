"""PriorityClasses (scheduling.k8s.io/v1): defaults and validation (`pkg/apis/scheduling`)."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.errors import Cause, forbidden
from hatchway.kube.api import Object
from hatchway.kube.wellknown import SYSTEM_PRIORITIES

__all__ = ["PriorityClassStrategy"]

_PREFIX = "system-"
_HIGHEST = 1_000_000_000
_POLICIES = ("Never", "PreemptLowerPriority")


class PriorityClassStrategy(Strategy):
    """PriorityClasses (`pkg/registry/scheduling/priorityclass`)."""

    generation = True

    def changed(self, obj: Object, old: Object) -> bool:
        """Return False: the generation stays 1, because only metadata may change."""
        return False

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the preemption policy (`SetDefaults_PriorityClass`)."""
        if obj.get("preemptionPolicy") is None:
            obj["preemptionPolicy"] = "PreemptLowerPriority"

    def check_deletion(self, obj: Object) -> None:
        """Raise ApiError 403 for the system's own classes (`storage.go`)."""
        name = obj["metadata"]["name"]
        if name in SYSTEM_PRIORITIES:
            why = "this is a system priority class and cannot be deleted"
            raise forbidden("priorityclasses", name, why, "scheduling.k8s.io")

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a new class (`ValidatePriorityClass`)."""
        causes = []
        name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
        if name.startswith(_PREFIX):
            problem = _system_problem(name, value, bool(obj.get("globalDefault")))
            if problem:
                text = (
                    f"priority class names with '{_PREFIX}' prefix are reserved for system use only. error: {problem}"
                )
                causes.append(v.forbidden("metadata.name", text))
        elif value > _HIGHEST:
            causes.append(v.forbidden("value", f"maximum allowed value of a user defined priority is {_HIGHEST}"))
        if obj["preemptionPolicy"] not in _POLICIES:
            causes.append(v.not_supported("preemptionPolicy", obj["preemptionPolicy"], _POLICIES))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change of the value or the preemption policy (`ValidatePriorityClassUpdate`)."""
        causes = []
        if obj.get("value", 0) != old.get("value", 0):
            causes.append(v.forbidden("value", "may not be changed in an update."))
        return causes + v.immutable(obj.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


def _system_problem(name: str, value: int, is_default: bool) -> str:
    """Return why a class is not a class of the system (`IsKnownSystemPriorityClass`); "" for a class of the system."""
    wanted = SYSTEM_PRIORITIES.get(name)
    if wanted is None:
        return f"{name} is not a known system priority class"
    if value != wanted:
        return f"value of {name} PriorityClass must be {wanted}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""
