"""The arithmetic of a Deployment's rollout: how many replicas each of its ReplicaSets should have, and which is which.

Pure. The rules are those of kube-controller-manager's `deployment/util/deployment_util.go` and `rolling.go`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, cast

from hatchway.cluster.controllers.objects import annotations_of, clone, is_deleting
from hatchway.kube.api import Object
from hatchway.numerals import is_digits, parse_int

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
# Annotations of a Deployment that say nothing about its ReplicaSets.
NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)
# No vowels and no digits that look like them: no words by accident (apimachinery's `util/rand`).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def replicas_of(obj: Object) -> int:
    """spec.replicas of a Deployment or ReplicaSet."""
    return cast(int, obj["spec"].get("replicas", 1))


def total_replicas(sets: Iterable[Object]) -> int:
    return sum(map(replicas_of, sets))


def status_count(sets: Iterable[Object], field: str) -> int:
    return sum((found.get("status") or {}).get(field, 0) for found in sets)


def is_rolling(deployment: Object) -> bool:
    kind: str = (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate")
    return kind == "RollingUpdate"


def max_surge(deployment: Object) -> int:
    return _limits(deployment)[0]


def max_unavailable(deployment: Object) -> int:
    return min(_limits(deployment)[1], replicas_of(deployment))


def _limits(deployment: Object) -> tuple[int, int]:
    """(maxSurge rounded up, maxUnavailable rounded down); never both zero, which could not move."""
    if not is_rolling(deployment):
        return 0, 0
    given = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    total = replicas_of(deployment)
    surge = _scaled(given.get("maxSurge", "25%"), total, up=True)
    unavailable = _scaled(given.get("maxUnavailable", "25%"), total, up=False)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _scaled(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    exact = (parse_int(value.removesuffix("%")) or 0) * total
    return -(-exact // 100) if up else exact // 100


def new_set_size(deployment: Object, sets: Iterable[Object], current: int) -> int:
    """How many replicas the new ReplicaSet, which has `current`, may have now; `sets` are all including it."""
    desired = replicas_of(deployment)
    if not is_rolling(deployment):
        return desired
    room = desired + max_surge(deployment) - total_replicas(sets)
    return current if room <= 0 else current + min(room, desired - current)


def old_set_sizes(deployment: Object, new: Object | None, old: list[Object]) -> dict[str, int]:
    """New sizes, by name, of the old ReplicaSets that should shrink now; `old` is sorted oldest first.

    First those replicas go that are not available anyway, then as many others as `maxUnavailable` allows.
    """
    active = [found for found in old if replicas_of(found)]
    if not active:
        return {}
    everything = [*active, *([new] if new else [])]
    minimum = replicas_of(deployment) - max_unavailable(deployment)
    new_unavailable = replicas_of(new) - status_count([new], "availableReplicas") if new else 0
    budget = total_replicas(everything) - minimum - new_unavailable
    if budget <= 0:
        return {}
    sizes = {found["metadata"]["name"]: replicas_of(found) for found in active}
    for found in active:
        unhealthy = replicas_of(found) - status_count([found], "availableReplicas")
        cut = max(0, min(budget, unhealthy))
        sizes[found["metadata"]["name"]] -= cut
        budget -= cut
    # A set that has just been cut may still report more than it is going to have.
    spare = sum(min(replicas_of(found), status_count([found], "availableReplicas")) for found in everything) - minimum
    for found in active:
        cut = max(0, min(spare, sizes[found["metadata"]["name"]]))
        sizes[found["metadata"]["name"]] -= cut
        spare -= cut
    return {
        found["metadata"]["name"]: sizes[found["metadata"]["name"]]
        for found in active
        if sizes[found["metadata"]["name"]] != replicas_of(found)
    }


def proportional_sizes(deployment: Object, active: list[Object]) -> dict[str, int]:
    """Sizes, by name, when a Deployment is scaled in the middle of a rollout: each set grows or shrinks by its share.

    `active` is sorted newest first.
    """
    desired = replicas_of(deployment)
    allowed = desired + max_surge(deployment) if desired else 0
    to_add = allowed - total_replicas(active)
    ordered = sorted(active if to_add > 0 else reversed(active), key=replicas_of, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for found in ordered:
        share = _share(deployment, found, to_add, added)
        sizes[found["metadata"]["name"]] = replicas_of(found) + share
        added += share
    if ordered and to_add:
        largest = ordered[0]["metadata"]["name"]
        sizes[largest] = max(0, sizes[largest] + to_add - added)
    return sizes


def _share(deployment: Object, found: Object, to_add: int, added: int) -> int:
    size, desired = replicas_of(found), replicas_of(deployment)
    if not size or not to_add or to_add == added:
        return 0
    if not desired:
        share = -size
    else:
        whole = annotation_number(found, MAX_REPLICAS) or (deployment.get("status") or {}).get("replicas", 0)
        if not whole:
            return 0
        share = math.floor(size * (desired + max_surge(deployment)) / whole + 0.5) - size
    return min(share, to_add - added) if to_add > 0 else max(share, to_add - added)


# --- revisions ---------------------------------------------------------------------------------------------------


def annotation_number(obj: Object, name: str) -> int:
    """An annotation that holds a number; 0 when it is missing or holds something else."""
    return parse_int(annotations_of(obj).get(name)) or 0


def next_revision(old: Iterable[Object]) -> int:
    return max((annotation_number(found, REVISION) for found in old), default=0) + 1


def annotations_of_new_set(deployment: Object, current: dict[str, str], revision: int) -> dict[str, str]:
    """The annotations of the ReplicaSet that carries a Deployment's present template, which has `current` ones."""
    out = dict(current)
    out.update({key: value for key, value in annotations_of(deployment).items() if key not in NOT_COPIED})
    before = out.get(REVISION, "")
    if not is_digits(before) or int(before) < revision:
        out[REVISION] = str(revision)
        if before:
            history = [*filter(None, out.get(REVISION_HISTORY, "").split(",")), before]
            out[REVISION_HISTORY] = ",".join(dict.fromkeys(history))
    return out


def size_annotations(deployment: Object) -> dict[str, str]:
    desired = replicas_of(deployment)
    return {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(desired + max_surge(deployment))}


def sets_to_forget(deployment: Object, old: Iterable[Object]) -> list[Object]:
    """Old ReplicaSets beyond revisionHistoryLimit that hold no pods any more, lowest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    alive = sorted((found for found in old if not is_deleting(found)), key=lambda s: annotation_number(s, REVISION))
    surplus = alive[: max(0, len(alive) - limit)]
    return [
        found
        for found in surplus
        if not replicas_of(found)
        and not status_count([found], "replicas")
        and (found.get("status") or {}).get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
    ]


# --- templates ---------------------------------------------------------------------------------------------------


def same_template(one: Object, other: Object) -> bool:
    """Whether two pod templates are equal but for the hash label."""
    return bool(_canonical(one) == _canonical(other))


def _canonical(template: Object) -> Any:
    copied = _without_empty(template)
    labels = dict((copied.get("metadata") or {}).get("labels") or {})
    labels.pop(HASH_LABEL, None)
    metadata = {**(copied.get("metadata") or {}), "labels": labels}
    # The server may fill it in; it says nothing in a template.
    metadata.pop("creationTimestamp", None)
    return {**copied, "metadata": metadata}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


def template_hash(template: Object, collisions: int | None) -> str:
    """The hash that names a template's ReplicaSet: FNV-1a, 32 bits, over the template and the collision count."""
    text = json.dumps(_canonical(template), sort_keys=True, separators=(",", ":"))
    if collisions is not None:
        text += str(collisions)
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(_ALPHABET[int(digit) % len(_ALPHABET)] for digit in str(value))


def with_hash(template: Object, value: str) -> Object:
    copied = clone(template)
    metadata = copied.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), HASH_LABEL: value}
    return copied
