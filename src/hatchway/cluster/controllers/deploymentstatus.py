"""The status of a Deployment: counts, and the conditions Available, Progressing and ReplicaFailure.

Its functions have no side effects. The rules come from kube-controller-manager's `deployment/progress.go` and
`sync.go`. `kubectl rollout status` reads the result.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from hatchway.cluster.controllers.objectfields import clone, parse_time, timestamp
from hatchway.cluster.controllers.rollout import max_unavailable, replicas_of, status_count, total_replicas
from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition


def condition(kind: str, status: str, reason: str, message: str) -> Object:
    """Return a condition without its times, which `put_condition` adds."""
    return {"type": kind, "status": status, "reason": reason, "message": message}


def put_condition(status: Object, new: Object, moment: datetime) -> None:
    """Set a condition in `status`, unless the present condition has the same status and reason."""
    conditions = status.setdefault("conditions", [])
    old = find_condition(status, new["type"])
    if old is not None and old["status"] == new["status"] and old.get("reason") == new["reason"]:
        return
    same = old is not None and old["status"] == new["status"]
    since = old.get("lastTransitionTime") if same and old else None
    stamp = timestamp(moment)
    entry = {**new, "lastUpdateTime": stamp, "lastTransitionTime": since or stamp}
    status["conditions"] = [*(c for c in conditions if c["type"] != new["type"]), entry]


def drop_condition(status: Object, kind: str) -> None:
    """Remove the condition of type `kind` from `status`, if it exists."""
    status["conditions"] = [c for c in status.get("conditions") or () if c["type"] != kind]


def find_condition(status: Object, kind: str) -> Object | None:
    """Return the condition of type `kind` of a status, None when it has none."""
    return get_condition({"status": status}, kind)


def calculate(deployment: Object, sets: list[Object], new: Object | None, moment: datetime) -> Object:
    """Return the status that follows from the ReplicaSets. Of the conditions, only Available is updated.

    sets: all ReplicaSets of the Deployment.
    new: the ReplicaSet with its current template; None when there is none yet.
    """
    old = deployment.get("status") or {}
    available = status_count(sets, "availableReplicas")
    status: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": status_count(sets, "replicas"),
        "updatedReplicas": status_count([new], "replicas") if new else 0,
        "readyReplicas": status_count(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(sets) - available),
    }
    status = {field: value for field, value in status.items() if value}
    status["terminatingReplicas"] = status_count(sets, "terminatingReplicas")
    if "collisionCount" in old:
        status["collisionCount"] = old["collisionCount"]
    status["conditions"] = clone(old.get("conditions") or [])
    if available >= replicas_of(deployment) - max_unavailable(deployment):
        found = condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        found = condition("Available", "False", "MinimumReplicasUnavailable", message)
    put_condition(status, found, moment)
    return status


def is_complete(deployment: Object, status: Object) -> bool:
    """Return True when all replicas are up to date and available, and no old replicas exist (DeploymentComplete)."""
    desired = replicas_of(deployment)
    return all(
        status.get(field, 0) == desired for field in ("updatedReplicas", "replicas", "availableReplicas")
    ) and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)


def _has_progressed(old: Object, new: Object) -> bool:
    def count(status: Object, field: str) -> int:
        return cast(int, status.get(field, 0))

    def outdated(status: Object) -> int:
        return count(status, "replicas") - count(status, "updatedReplicas")

    return outdated(new) < outdated(old) or any(
        count(new, field) > count(old, field) for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def has_deadline(deployment: Object) -> bool:
    """Return True when the Deployment has a deadline. The largest int32 means no deadline, as in apps/v1beta1."""
    return deployment["spec"].get("progressDeadlineSeconds") not in (None, 2**31 - 1)


def deadline_left(deployment: Object, status: Object, moment: datetime) -> float | None:
    """Return the seconds until the rollout misses its deadline; None without a deadline or a rollout."""
    found = find_condition(status, "Progressing")
    if not has_deadline(deployment) or found is None or found.get("reason") == "NewReplicaSetAvailable":
        return None
    if found.get("reason") == "ProgressDeadlineExceeded":
        return 0.0
    since = parse_time(found.get("lastUpdateTime"))
    limit = deployment["spec"]["progressDeadlineSeconds"]
    return None if since is None else max(0.0, limit - (moment - since).total_seconds())


def update_progress(
    deployment: Object, status: Object, sets: list[Object], new: Object | None, moment: datetime
) -> None:
    """Update the conditions Progressing and ReplicaFailure in a calculated `status`. sets, new: as in `calculate`."""
    old = deployment.get("status") or {}
    name = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
    current = find_condition(status, "Progressing")
    if not has_deadline(deployment):
        drop_condition(status, "Progressing")
    elif not (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and current is not None
        and current.get("reason") == "NewReplicaSetAvailable"
    ):
        if is_complete(deployment, status):
            message = f"{name} has successfully progressed."
            put_condition(status, condition("Progressing", "True", "NewReplicaSetAvailable", message), moment)
        elif _has_progressed(old, status):
            # The condition is removed first, so that its lastUpdateTime changes and the deadline starts again.
            drop_condition(status, "Progressing")
            put_condition(
                status, condition("Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing."), moment
            )
            if current is not None and current["status"] == "True":
                status["conditions"][-1]["lastTransitionTime"] = current["lastTransitionTime"]
        elif deadline_left(deployment, status, moment) == 0.0:
            message = f"{name} has timed out progressing."
            put_condition(status, condition("Progressing", "False", "ProgressDeadlineExceeded", message), moment)
    failures = [f for found in sets if (f := get_condition(found, "ReplicaFailure")) is not None]
    if failures:
        # When several ReplicaSets fail, the status shows the failure of the new ReplicaSet.
        wanted = get_condition(new, "ReplicaFailure") if new else None
        failure = wanted or failures[0]
        put_condition(status, {key: failure.get(key, "") for key in ("type", "status", "reason", "message")}, moment)
    else:
        drop_condition(status, "ReplicaFailure")
