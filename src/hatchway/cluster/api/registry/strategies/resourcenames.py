"""Names of resources in limits and quotas (`pkg/apis/core/helper/helpers.go`, `pkg/apis/core/validation`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.amounts import Amount
from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

__all__ = [
    "is_overcommit_allowed",
    "is_quota_resource",
    "validate_amount",
    "validate_container_resource",
    "validate_quota_resource",
    "validate_resource",
]

_HUGE_PAGES = "hugepages-"
_REQUESTS = "requests."
_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_COUNTED = frozenset(
    (
        "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps",
        "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
    )
)  # fmt: skip
_QUOTA = _COUNTED | {
    *_CONTAINER, "requests.cpu", "requests.memory", "requests.storage", "requests.ephemeral-storage", "limits.cpu",
    "limits.memory", "limits.ephemeral-storage",
}  # fmt: skip
_STANDARD = _QUOTA | {"storage"}


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    return not _is_native(name) and not name.startswith(_REQUESTS) and not v.qualified_name(_REQUESTS + name)


def is_overcommit_allowed(name: str) -> bool:
    """Return True for a resource whose limit in a container may be higher than the request."""
    return _is_native(name) and not name.startswith(_HUGE_PAGES)


def is_quota_resource(name: str) -> bool:
    """Return True for a resource that has a name without a domain in quotas."""
    return name in _QUOTA or name.startswith((_HUGE_PAGES, _REQUESTS + _HUGE_PAGES))


def validate_resource(name: str, at: str) -> list[Cause]:
    """Return the errors in a resource's name: a standard name, or a name with a domain (`validateResourceName`)."""
    causes = v.each(at, name, v.qualified_name(name))
    is_standard = name in _STANDARD or name.startswith((_HUGE_PAGES, _REQUESTS + _HUGE_PAGES))
    if not causes and "/" not in name and not is_standard:
        causes.append(v.invalid(at, name, "must be a standard resource type or fully qualified"))
    return causes


def validate_container_resource(name: str, at: str) -> list[Cause]:
    """Return the errors in the name of a resource of containers (`ValidateContainerResourceName`)."""
    causes = validate_resource(name, at)
    if "/" not in name:
        if name not in _CONTAINER and not name.startswith(_HUGE_PAGES):
            causes.append(v.invalid(at, name, "must be a standard resource for containers"))
    elif not _is_native(name) and not is_extended(name):
        causes.append(v.invalid(at, name, "doesn't follow extended resource name standard"))
    return causes


def validate_quota_resource(name: str, at: str) -> list[Cause]:
    """Return the errors in the name of a resource that a quota limits (`ValidateResourceQuotaResourceName`)."""
    causes = validate_resource(name, at)
    if "/" not in name and not is_quota_resource(name):
        causes.append(v.invalid(at, name, "must be a standard resource for quota"))
    return causes


def validate_amount(name: str, text: Any, at: str) -> list[Cause]:
    """Return the errors in an amount: it must not be negative, and counts must be whole numbers.

    The rules are those of `ValidateResourceQuantityValue`.
    """
    amount, causes = Amount.parse(text), []
    if amount.nano < 0:
        causes.append(v.invalid(at, str(amount), "must be greater than or equal to 0"))
    if (name in _COUNTED or is_extended(name)) and amount != amount.rounded_up():
        causes.append(v.invalid(at, str(amount), "must be an integer"))
    return causes
