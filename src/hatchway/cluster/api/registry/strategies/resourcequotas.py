"""ResourceQuotas: limits of the objects and resources of a namespace (`pkg/registry/core/resourcequota`).

The rules are those of `ValidateResourceQuota` in `pkg/apis/core/validation/validation.go`. Admission
(`admission/quota/`) compares writes with the status, and keeps the status up to date.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.registry.strategies.resourcenames import (
    is_quota_resource,
    validate_amount,
    validate_quota_resource,
)
from hatchway.errors import Cause
from hatchway.kube.api import Object

Json = dict[str, Any]

_COMPUTE = frozenset(("pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))
# The resources without a domain that a quota with a scope may limit.
_SCOPES: dict[str, frozenset[str] | None] = {
    "Terminating": _COMPUTE,
    "NotTerminating": _COMPUTE,
    "BestEffort": frozenset(("pods",)),
    "NotBestEffort": _COMPUTE,
    "PriorityClass": _COMPUTE,
    "CrossNamespacePodAffinity": _COMPUTE,
    "VolumeAttributesClass": frozenset(("persistentvolumeclaims", "requests.storage")),
}
_ONLY_EXISTS = frozenset(("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"))
_EXISTS_ERROR = (
    "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)
_VALUES_ERROR = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
_NO_VALUES_ERROR = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
_PAIRS = (frozenset(("BestEffort", "NotBestEffort")), frozenset(("Terminating", "NotTerminating")))


class ResourceQuotaStrategy(Strategy):
    """ResourceQuotas. The admission plugin writes the status (`admission/quota/`)."""

    requires_spec = True
    return_deleted = True

    def prepare_create(self, ctx: Any, obj: Object) -> None:
        """Set an empty status. `admission/quota/recount.py` fills the status after counting the existing objects."""
        obj["status"] = {}

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the names, the amounts and the scopes."""
        spec = obj.get("spec") or {}
        hard = spec.get("hard") or {}
        causes = _validate_amounts(hard, "spec.hard")
        if scopes := spec.get("scopes") or []:
            causes += _validate_scopes(scopes, hard, "spec.scopes", scopes)
        if spec.get("scopeSelector") is not None:
            causes += _validate_selector(spec["scopeSelector"], hard, scopes)
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the scopes never change."""
        causes = self.validate(obj)
        new = (obj.get("spec") or {}).get("scopes") or []
        if set(new) != set((old.get("spec") or {}).get("scopes") or ()):
            causes.append(v.invalid("spec.scopes", new or None, "field is immutable"))
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the names and amounts of the status."""
        status = obj.get("status") or {}
        return [
            cause for key in ("hard", "used") for cause in _validate_amounts(status.get(key) or {}, f"status.{key}")
        ]


def _validate_amounts(amounts: Json, at: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in sorted(amounts):
        here = f"{at}[{name}]"
        causes += validate_quota_resource(name, here) + validate_amount(name, amounts[name], here)
    return causes


def _applies(scope: str, name: str) -> bool:
    """Return True when a quota with the scope may limit the resource (`IsResourceQuotaScopeValidForResource`)."""
    allowed = _SCOPES.get(scope)
    return allowed is None or name in allowed


def _validate_scopes(scopes: list[str], hard: Json, at: str, shown: Any) -> list[Cause]:
    """Return the errors in scopes. shown: the value to show in the errors."""
    causes = []
    for scope in scopes:
        if scope not in _SCOPES:
            causes.append(v.invalid(at, shown, "unsupported scope"))
        for name in sorted(hard):
            if is_quota_resource(name) and not _applies(scope, name):
                causes.append(v.invalid(at, shown, "unsupported scope applied to resource"))
    causes += [v.invalid(at, shown, "conflicting scopes") for pair in _PAIRS if pair <= set(scopes)]
    return causes


def _validate_selector(selector: Json, hard: Json, scopes: list[str]) -> list[Cause]:
    at, causes = "spec.scopeSelector.matchExpressions", []
    named = set()
    for requirement in selector.get("matchExpressions") or ():
        scope, operator = requirement.get("scopeName", ""), requirement.get("operator", "")
        values = requirement.get("values") or []
        named.add(scope)
        if scope not in _SCOPES:
            causes.append(v.invalid(f"{at}.scopeName", scope, "unsupported scope"))
        for name in sorted(hard):
            if is_quota_resource(name) and not _applies(scope, name):
                causes.append(v.invalid(at, selector, "unsupported scope applied to resource"))
        if scope in _ONLY_EXISTS and operator != "Exists":
            causes.append(v.invalid(f"{at}.operator", operator, _EXISTS_ERROR))
        if operator in ("In", "NotIn"):
            if not values:
                causes.append(v.required(f"{at}.values", _VALUES_ERROR))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                causes.append(v.invalid(f"{at}.values", values, _NO_VALUES_ERROR))
        else:
            causes.append(v.invalid(f"{at}.operator", operator, "not a valid selector operator"))
    causes += [v.invalid(at, scopes or None, "conflicting scopes") for pair in _PAIRS if pair <= named]
    return causes
