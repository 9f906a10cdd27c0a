"""The arithmetic of a Deployment's rollout: how many replicas each of its ReplicaSets should have next.

This file also computes revision numbers, and compares and hashes pod templates. Pure.
The rules come from kube-controller-manager's `deployment/util/deployment_util.go` and `rolling.go`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from hatchway.cluster.controllers.objectfields import annotations_of, is_deleting
from hatchway.kube.api import Object
from hatchway.kube.wellknown import LAST_APPLIED
from hatchway.numerals import is_digits, parse_int

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
# Annotations of a Deployment that are not copied to its ReplicaSets.
NOT_COPIED = frozenset(
    {
        LAST_APPLIED,
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)
# No vowels, and no digits that look like vowels, so that no word appears by accident (apimachinery's `util/rand`).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def replicas_of(obj: Object) -> int:
    """Return spec.replicas of a Deployment or ReplicaSet; 1 when it is not set."""
    return cast(int, obj["spec"].get("replicas", 1))


def total_replicas(sets: Iterable[Object]) -> int:
    """Return the sum of spec.replicas."""
    return sum(map(replicas_of, sets))


def status_count(sets: Iterable[Object], field: str) -> int:
    """Return the sum of a counter of the ReplicaSets' statuses (`availableReplicas`)."""
    return sum((found.get("status") or {}).get(field, 0) for found in sets)


def uses_rolling_update(deployment: Object) -> bool:
    """Return True when the Deployment's strategy is RollingUpdate, the default; False for Recreate."""
    kind: str = (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate")
    return kind == "RollingUpdate"


def max_surge(deployment: Object) -> int:
    """Return the number of pods allowed above spec.replicas during a rollout."""
    return _limits(deployment)[0]


def max_unavailable(deployment: Object) -> int:
    """Return the number of pods that may be missing from spec.replicas during a rollout."""
    return min(_limits(deployment)[1], replicas_of(deployment))


def _limits(deployment: Object) -> tuple[int, int]:
    """Return (maxSurge rounded up, maxUnavailable rounded down).

    For RollingUpdate, at least one of them is above 0; otherwise the rollout could not proceed. For Recreate: (0, 0).
    """
    if not uses_rolling_update(deployment):
        return 0, 0
    given = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    total = replicas_of(deployment)
    surge = resolve_percentage(given.get("maxSurge", "25%"), total, up=True)
    unavailable = resolve_percentage(given.get("maxUnavailable", "25%"), total, up=False)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def resolve_percentage(value: int | str, total: int, *, up: bool) -> int:
    """Return `value` if it is a number; if it is a percentage, that share of `total`. up: True to round up."""
    if isinstance(value, int):
        return value
    exact = (parse_int(value.removesuffix("%")) or 0) * total
    return -(-exact // 100) if up else exact // 100


def next_size_of_new_set(deployment: Object, sets: Iterable[Object], current: int) -> int:
    """Return the next size of the new ReplicaSet.

    current: its size now.
    sets: all ReplicaSets, the new one included.
    """
    desired = replicas_of(deployment)
    if not uses_rolling_update(deployment):
        return desired
    room = desired + max_surge(deployment) - total_replicas(sets)
    return current if room <= 0 else current + min(room, desired - current)


def next_sizes_of_old_sets(deployment: Object, new: Object | None, old: list[Object]) -> dict[str, int]:
    """Return the new sizes, by name, of the old ReplicaSets that should shrink now. old: sorted oldest first.

    Unavailable replicas are removed first, then as many others as `maxUnavailable` allows.
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
    # The status may be old: a ReplicaSet that was just scaled down may still count pods that will be deleted.
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
    """Return the new sizes, by name, when a Deployment is scaled during a rollout: proportional to the present sizes.

    active: the sets that have replicas, sorted newest first.
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
    """Return an annotation that holds a number; 0 when it is missing or holds something else."""
    return parse_int(annotations_of(obj).get(name)) or 0


def next_revision(old: Iterable[Object]) -> int:
    """Return the number after the highest revision of the old ReplicaSets; 1 without old ReplicaSets."""
    return max((annotation_number(found, REVISION) for found in old), default=0) + 1


def annotations_of_new_set(deployment: Object, current: dict[str, str], revision: int) -> dict[str, str]:
    """Return the annotations of the ReplicaSet with the Deployment's present template.

    current: the annotations that the ReplicaSet has now; {} when it does not exist yet.
    """
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
    """Return the annotations that record the Deployment's size in a ReplicaSet (desired-replicas, max-replicas)."""
    desired = replicas_of(deployment)
    return {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(desired + max_surge(deployment))}


def sets_to_delete(deployment: Object, old: Iterable[Object]) -> list[Object]:
    """Return the old ReplicaSets beyond revisionHistoryLimit that have no pods, lowest revision first."""
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
    """Return True when two pod templates are equal apart from the hash label."""
    return _same(_canonical(one), _canonical(other))


def _canonical(template: Object) -> Object:
    """Return the template without the fields that do not matter for comparison. Nulls are kept."""
    labels = dict((template.get("metadata") or {}).get("labels") or {})
    labels.pop(HASH_LABEL, None)
    metadata = {**(template.get("metadata") or {}), "labels": labels}
    # The API server may have added creationTimestamp.
    metadata.pop("creationTimestamp", None)
    return {**template, "metadata": metadata}


def _same(one: Any, other: Any) -> bool:
    """Return True when two JSON values are equal. A key with a null is the same as no key."""
    # This quick comparison is enough in most cases.
    if one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(key), other.get(key)) for key in {*one, *other})
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(_same(*pair) for pair in zip(one, other, strict=True))
    return False


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def template_hash(template: Object, collisions: int | None) -> str:
    """Return the hash for the name of a template's ReplicaSet: a 32-bit hash of the template and the collision count.

    collisions: status.collisionCount; None before the first collision.
    """
    text = _encode_sorted(_canonical(template))
    if b":null" in text:
        text = _encode_sorted(_without_nulls(msgspec.json.decode(text)))
    if collisions is not None:
        text += str(collisions).encode()
    value = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
    return "".join(_ALPHABET[int(digit) % len(_ALPHABET)] for digit in str(value))


def with_hash(template: Object, value: str) -> Object:
    """Return a copy of a pod template with the hash `value` as its label."""
    metadata = template.get("metadata") or {}
    return {**template, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), HASH_LABEL: value}}}
