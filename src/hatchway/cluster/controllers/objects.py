"""Small questions about Kubernetes objects that several controllers ask. Pure, except for `now`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from hatchway.kube.api import Object
from hatchway.numerals import parse_int

Key = tuple[str, str]
T = TypeVar("T")


def clone(value: T) -> T:
    """A deep copy of a JSON value: cached objects are shared and must not be changed."""
    if isinstance(value, dict):
        return cast(T, {key: clone(item) for key, item in value.items()})
    if isinstance(value, list):
        return cast(T, [clone(item) for item in value])
    return value


def key_of(obj: Object) -> Key:
    """(namespace, name); "" as the namespace of cluster-scoped objects."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def uid_of(obj: Object) -> str:
    return cast(str, obj["metadata"].get("uid", ""))


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


# --- time --------------------------------------------------------------------------------------------------------


def now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """As metav1.Time is written: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """A metav1.Time or MicroTime; None when it is missing or not readable."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# --- owners (metav1.OwnerReference) ------------------------------------------------------------------------------


def owner_references(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the controller that manages `obj`, or None."""
    return next((ref for ref in owner_references(obj) if ref.get("controller")), None)


def controlled_by(obj: Object, owner: Object) -> bool:
    ref = controller_of(obj)
    return ref is not None and ref.get("uid") == uid_of(owner)


def controller_reference(owner: Object) -> Object:
    """What a controller writes into what it makes (`metav1.NewControllerRef`)."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


# --- label selectors (metav1.LabelSelector) ----------------------------------------------------------------------


def selector_is_empty(selector: Mapping[str, Any] | None) -> bool:
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def selector_matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector selects these labels; an empty one selects everything."""
    return subset_matches(selector.get("matchLabels") or {}, labels) and all(
        requirement_matches(requirement, labels) for requirement in selector.get("matchExpressions") or ()
    )


def subset_matches(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def requirement_matches(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """One `{key, operator, values}`, of a LabelSelector or (with Gt and Lt) of a node selector."""
    key, operator = requirement["key"], requirement["operator"]
    values = requirement.get("values") or []
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator in ("Gt", "Lt") and key in labels and len(values) == 1:
        have, limit = parse_int(labels[key]), parse_int(values[0])
        if have is None or limit is None:
            return False
        return have > limit if operator == "Gt" else have < limit
    return False


# --- conditions --------------------------------------------------------------------------------------------------


def get_condition(obj: Object, kind: str) -> Object | None:
    return next((c for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") == kind), None)


def condition_is(obj: Object, kind: str, status: str = "True") -> bool:
    condition = get_condition(obj, kind)
    return condition is not None and condition.get("status") == status


def set_condition(conditions: Iterable[Object], condition: Object, moment: datetime) -> list[Object]:
    """`conditions` with `condition` in the place of the one of its type.

    lastTransitionTime moves only when the status changes; a condition that says the same is left untouched.
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
    return cast(str, (pod.get("status") or {}).get("phase", "Pending"))


def is_finished(pod: Object) -> bool:
    return pod_phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither finished nor on its way out (`IsPodActive` of controller_utils.go)."""
    return not is_finished(pod) and not is_deleting(pod)


def is_ready(pod: Object) -> bool:
    return condition_is(pod, "Ready")


def available_in(pod: Object, min_ready_seconds: int, moment: datetime) -> float | None:
    """Seconds until the pod counts as available: 0.0 when it does, None while it is not ready."""
    condition = get_condition(pod, "Ready")
    if condition is None or condition.get("status") != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    since = parse_time(condition.get("lastTransitionTime"))
    if since is None:
        return float(min_ready_seconds)
    return max(0.0, min_ready_seconds - (moment - since).total_seconds())
