"""Taints of nodes and tolerations of pods (kube-scheduler's `framework/plugins/tainttoleration`). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.kube.api import Object

__all__ = ["count_intolerable", "tolerated", "tolerates", "untolerated"]


def tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    """Return True when one of the tolerations tolerates the taint."""
    return any(tolerates(toleration, taint) for toleration in tolerations)


def tolerates(toleration: Object, taint: Object) -> bool:
    """Return True when the toleration tolerates the taint (`ToleratesTaint` of `api/core/v1/toleration.go`)."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    equal = (toleration.get("value") or "") == (taint.get("value") or "")
    return operator == "Equal" and bool(toleration.get("key")) and equal


def untolerated(taints: Iterable[Object], tolerations: Iterable[Object], effects: tuple[str, ...]) -> Object | None:
    """Return the first taint with one of these effects that no toleration tolerates; None when there is none."""
    wanted = list(tolerations)
    return next((t for t in taints if t["effect"] in effects and not tolerated(t, wanted)), None)


def count_intolerable(taints: Iterable[Object], tolerations: Iterable[Object]) -> int:
    """Return the number of PreferNoSchedule taints that are not tolerated."""
    wanted = [one for one in tolerations if (one.get("effect") or "PreferNoSchedule") == "PreferNoSchedule"]
    return sum(taint["effect"] == "PreferNoSchedule" and not tolerated(taint, wanted) for taint in taints)
