"""Compares a new or changed object with the quotas of its namespace. Pure.

Source: `CheckRequest` in apiserver's `pkg/admission/plugin/resourcequota/controller.go`, and `Constraints` for pods.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hatchway.cluster.amounts import ONE, Amounts, add, amounts_of, mask, shown, subtract, without_zeros
from hatchway.cluster.api.admission.quota.scopes import in_scope
from hatchway.cluster.api.admission.quota.usage import compute_usage, tracked
from hatchway.cluster.podresources import containers_of

__all__ = ["QuotaRefusal", "charged"]

Json = dict[str, Any]

# If a quota limits one of these resources, each container must set it.
_REQUIRED = frozenset(("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))


class QuotaRefusal(Exception):
    """Raised when a quota does not allow an object. The text says why."""


def charged(
    quotas: Iterable[Json], resource: str, obj: Json, used: Amounts, old: Json | None, formerly: Amounts
) -> list[tuple[Json, Amounts]]:
    """Return the quotas that must be charged for an object, each with the amounts that are used afterwards.

    quotas: the quotas of the namespace, in their latest states.
    used: the amounts that the object uses.
    old: the object before the change; None on create.
    formerly: the amounts that `old` used.

    Raises QuotaRefusal.
    """
    changed = []
    known: dict[str, str] = {}
    known_before: dict[str, str] = {}
    for quota in quotas:
        status = quota.get("status") or {}
        hard = status.get("hard") or {}
        names = tracked(resource, hard)
        if not names or not in_scope(quota, resource, obj, known):
            continue
        name = quota["metadata"]["name"]
        if resource == "pods" and (missing := _unset(obj, names)):
            raise QuotaRefusal(f"failed quota: {name}: must specify {missing}")
        present = amounts_of(status.get("used"))
        if any(one not in present for one in names):
            raise QuotaRefusal(f"status unknown for quota: {name}, resources: {','.join(sorted(names))}")
        if negative := sorted(one for one, amount in used.items() if amount.nano < 0):
            raise QuotaRefusal(f"quota usage is negative for resource(s): {','.join(negative)}")
        was_counted = old is not None and in_scope(quota, resource, old, known_before)
        delta = subtract(used, formerly) if was_counted else used
        delta = mask(without_zeros(delta), hard)
        if not delta:
            continue
        after = add(present, delta)
        bounds = amounts_of(hard)
        if exceeded := [one for one in delta if after[one].nano > bounds[one].nano]:
            requested, counted, limited = (shown(mask(of, exceeded)) for of in (delta, present, bounds))
            why = f"requested: {requested}, used: {counted}, limited: {limited}"
            raise QuotaRefusal(f"exceeded quota: {name}, {why}")
        changed.append((quota, after))
    return changed


def _unset(pod: Json, names: Iterable[str]) -> str:
    """Return the resources that containers must set and have not set: `limits.cpu for: a,b; memory for: a`."""
    required = _REQUIRED.intersection(names)
    missing: dict[str, set[str]] = {}
    for container in containers_of(pod.get("spec") or {}):
        resources = container.get("resources") or {}
        # The amounts are not parsed, because only the resources' names are needed.
        given = compute_usage(*(dict.fromkeys(resources.get(key) or (), ONE) for key in ("requests", "limits")))
        for name in required.difference(given):
            missing.setdefault(name, set()).add(container.get("name", ""))
    return "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))
