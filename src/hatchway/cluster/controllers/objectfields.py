"""Small functions for Kubernetes objects, which several controllers use. All of them are pure, except `now`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar, cast

import msgspec

from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition, is_finished

T = TypeVar("T")

# Encoding to JSON and decoding makes a copy several times as quickly as Python's `deepcopy`.
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def clone(value: T) -> T:
    """Return a deep copy of a JSON value, because cached objects are shared and must not be changed."""
    return cast(T, _decode(_encode(value)))


def uid_of(obj: Object) -> str:
    """Return the object's uid, "" when it has none."""
    return cast(str, obj["metadata"].get("uid", ""))


def labels_of(obj: Object) -> dict[str, str]:
    """Return the object's labels. They are part of the object, so do not change them."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    """Return the object's annotations. They are part of the object, so do not change them."""
    return obj["metadata"].get("annotations") or {}


def is_deleting(obj: Object) -> bool:
    """Return True when the object is marked for deletion."""
    return bool(obj["metadata"].get("deletionTimestamp"))


# --- time --------------------------------------------------------------------------------------------------------


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """Format a moment as metav1.Time does: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """Return a metav1.Time or MicroTime; None when it is missing or not readable."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# --- owners (metav1.OwnerReference) ------------------------------------------------------------------------------


def owner_references(obj: Object) -> list[Object]:
    """Return the object's owner references, in their order."""
    return obj["metadata"].get("ownerReferences") or []


def controller_of(obj: Object) -> Object | None:
    """Return the owner reference of the controller that manages `obj`, or None."""
    return next((ref for ref in owner_references(obj) if ref.get("controller")), None)


def controlled_by(obj: Object, owner: Object) -> bool:
    """Return True when `owner` is the controller of `obj`. Their uids are compared."""
    ref = controller_of(obj)
    return ref is not None and ref.get("uid") == uid_of(owner)


def controller_reference(owner: Object) -> Object:
    """Return the owner reference to `owner` for an object that it controls (`metav1.NewControllerRef`)."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


# --- conditions --------------------------------------------------------------------------------------------------


def set_condition(conditions: Iterable[Object], condition: Object, moment: datetime) -> list[Object]:
    """Return `conditions` with `condition` instead of the present condition of the same type.

    lastTransitionTime changes only when the status changes. If status, reason and message are equal, the present
    condition is kept.
    """
    out = list(conditions)
    for index, old in enumerate(out):
        if old.get("type") == condition["type"]:
            if all(old.get(field, "") == condition.get(field, "") for field in ("status", "reason", "message")):
                return out
            same = old.get("status") == condition["status"]
            since = old.get("lastTransitionTime") if same else None
            out[index] = {**condition, "lastTransitionTime": since or timestamp(moment)}
            return out
    return [*out, {**condition, "lastTransitionTime": timestamp(moment)}]


# --- pods --------------------------------------------------------------------------------------------------------


def pod_phase(pod: Object) -> str:
    """Return status.phase; "Pending" for a pod that has none yet."""
    return cast(str, (pod.get("status") or {}).get("phase", "Pending"))


def is_active(pod: Object) -> bool:
    """Return True for a pod that has neither finished nor is being deleted (IsPodActive of controller_utils.go)."""
    return not is_finished(pod) and not is_deleting(pod)


def available_in(pod: Object, min_ready_seconds: int, moment: datetime) -> float | None:
    """Return the seconds until the pod counts as available; 0.0 when it is available, None while it is not ready."""
    condition = get_condition(pod, "Ready")
    if condition is None or condition.get("status") != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    since = parse_time(condition.get("lastTransitionTime"))
    if since is None:
        return float(min_ready_seconds)
    return max(0.0, min_ready_seconds - (moment - since).total_seconds())
