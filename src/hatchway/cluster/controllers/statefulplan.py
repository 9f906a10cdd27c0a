"""Decides which pods of a StatefulSet are created or deleted next, by ordinal (`statefulset/stateful_set_control.go`).

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hatchway.cluster.controllers.objectfields import (
    available_in,
    clone,
    controller_reference,
    is_deleting,
    labels_of,
    pod_phase,
)
from hatchway.cluster.controllers.revisions import POD_HASH, template_of
from hatchway.cluster.controllers.rollout import resolve_percentage
from hatchway.kube.api import Object
from hatchway.kube.objects import is_finished, is_ready

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
# At most this many pods of a parallel StatefulSet are created or deleted in one reconcile.
_MOST_PODS = 500
_name = re.compile(r"(.+)-([0-9]{1,9})").fullmatch


def ordinal_of(name: str, pod: Object) -> int | None:
    """Return the ordinal of a pod of the StatefulSet `name`; None for a pod with another name."""
    found = _name(pod["metadata"]["name"])
    return int(found[2]) if found is not None and found[1] == name else None


def is_running(pod: Object) -> bool:
    """Return True when the pod runs and is ready."""
    return pod_phase(pod) == "Running" and is_ready(pod)


@dataclass(slots=True)
class StatefulPlan:
    """The next actions for the pods. For an ordered StatefulSet, there is at most one.

    fix: pods whose labels must be set again.
    recreated: pods that have ended and are deleted to be created again; they are in `delete`, too.
    again: seconds until the next reconcile, or None.
    """

    create: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    fix: list[Object] = field(default_factory=list)
    recreated: list[Object] = field(default_factory=list)
    again: float | None = None


class StatefulView:
    """The current state of a StatefulSet, its pods and its revisions.

    current, update: the ControllerRevisions of the pods before and after a rollout.
    """

    def __init__(self, owner: Object, pods: list[Object], current: Object, update: Object, now: datetime) -> None:
        self.owner = owner
        self.pods = pods
        self.current = current
        self.update = update
        self.now = now
        spec = owner["spec"]
        self.start: int = (spec.get("ordinals") or {}).get("start", 0)
        self.size: int = spec.get("replicas", 1)
        self.ordered = spec.get("podManagementPolicy", "OrderedReady") != "Parallel"
        strategy = spec.get("updateStrategy") or {}
        self.rolls = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        self._rolling: dict[str, Any] = strategy.get("rollingUpdate") or {}
        by_ordinal = {ordinal_of(owner["metadata"]["name"], pod): pod for pod in pods}
        self._by_ordinal = by_ordinal
        self._wanted = wanted = range(self.start, self.start + self.size)
        # The pods beyond spec.replicas, the highest ordinal first.
        surplus = [
            (ordinal, pod) for ordinal, pod in by_ordinal.items() if ordinal is not None and ordinal not in wanted
        ]
        self.condemned = [pod for _, pod in sorted(surplus, key=lambda one: -one[0])]

    def replicas(self) -> Iterator[tuple[int, Object | None]]:
        """Yield each wanted ordinal, in order, with its pod or None. There may be very many ordinals."""
        return ((ordinal, self._by_ordinal.get(ordinal)) for ordinal in self._wanted)

    @property
    def partition(self) -> int:
        """Return the first ordinal that a rollout updates."""
        found: int = self._rolling.get("partition") or 0
        return found

    @property
    def max_unavailable(self) -> int:
        """Return how many pods may be unavailable during a rollout, at least 1."""
        given = self._rolling.get("maxUnavailable")
        return 1 if given is None else max(1, resolve_percentage(given, self.size, up=False))

    def wait_of(self, pod: Object) -> float | None:
        """Return the seconds until a pod is available; 0.0 when it is available, None while it is not ready."""
        if pod_phase(pod) != "Running":
            return None
        return available_in(pod, self.owner["spec"].get("minReadySeconds", 0), self.now)

    def is_available(self, pod: Object | None) -> bool:
        """Return True when a pod runs and has been ready for long enough."""
        return pod is not None and not is_deleting(pod) and self.wait_of(pod) == 0.0

    def revision_for(self, ordinal: int) -> Object:
        """Return the revision for a new pod. Below the partition, it is the revision before the rollout."""
        return self.current if self.rolls and ordinal < self.start + self.partition else self.update


def plan_stateful(view: StatefulView) -> StatefulPlan:
    """Return the next actions for a StatefulSet."""
    plan = StatefulPlan()
    if is_deleting(view.owner):
        return plan
    waiting = [seconds for pod in view.pods if (seconds := view.wait_of(pod))]
    plan.again = min(waiting) + 0.1 if waiting else None
    if _fill(view, plan) or _shrink(view, plan) or not view.rolls:
        return plan
    _roll(view, plan)
    return plan


def _fill(view: StatefulView, plan: StatefulPlan) -> bool:
    """Plan the creation of missing pods, in order. Return True when further actions must wait."""
    blocked = False
    for ordinal, pod in view.replicas():
        if len(plan.create) + len(plan.delete) >= _MOST_PODS:
            return True
        if pod is None:
            plan.create.append(new_pod(view, ordinal))
        elif is_finished(pod):
            # The pod is created again after its deletion is complete.
            if not is_deleting(pod):
                plan.delete.append(pod)
                plan.recreated.append(pod)
        else:
            if not is_deleting(pod) and not _has_identity(pod, ordinal):
                plan.fix.append(_with_identity(pod, ordinal))
            if view.is_available(pod) or not view.ordered:
                continue
        if view.ordered:
            return True
        blocked = True
    return blocked and bool(plan.create)


def _shrink(view: StatefulView, plan: StatefulPlan) -> bool:
    """Plan the deletion of pods beyond spec.replicas, highest ordinal first. Return True if further actions must wait.

    For an ordered StatefulSet, this is called only when all pods within spec.replicas are available. If several pods
    beyond spec.replicas are unavailable, only the one with the lowest ordinal may be deleted (`processCondemned`).
    """
    unavailable = next((pod for pod in reversed(view.condemned) if not view.is_available(pod)), None)
    for pod in view.condemned:
        if not is_deleting(pod):
            if view.ordered and pod is not unavailable and not view.is_available(pod):
                return True
            plan.delete.append(pod)
        if view.ordered:
            return True
    return False


def _roll(view: StatefulView, plan: StatefulPlan) -> None:
    """Plan the deletion of pods with another revision, highest ordinal first, as many as may be unavailable."""
    # At this point no pod is missing, so there are no more ordinals than pods.
    replicas = list(view.replicas())
    budget = view.max_unavailable - sum(not view.is_available(pod) for _, pod in replicas)
    name = view.update["metadata"]["name"]
    for ordinal, pod in reversed(replicas):
        if ordinal < view.start + view.partition or pod is None:
            continue
        if labels_of(pod).get(POD_HASH) == name or is_deleting(pod) or pod in plan.delete:
            continue
        if view.is_available(pod):
            if budget <= 0:
                continue
            budget -= 1
        plan.delete.append(pod)
        if view.max_unavailable == 1:
            return


def new_pod(view: StatefulView, ordinal: int) -> Object:
    """Return the new pod for an ordinal (`newStatefulSetPod`)."""
    owner, revision = view.owner, view.revision_for(ordinal)
    template = clone(template_of(revision))
    given, spec = template.get("metadata") or {}, template.get("spec") or {}
    name = f"{owner['metadata']['name']}-{ordinal}"
    metadata: dict[str, Any] = {
        "name": name,
        "labels": {
            **(given.get("labels") or {}),
            POD_NAME: name,
            POD_INDEX: str(ordinal),
            POD_HASH: revision["metadata"]["name"],
        },
        "ownerReferences": [controller_reference(owner)],
    }
    for key in ("annotations", "finalizers"):
        if given.get(key):
            metadata[key] = given[key]
    spec["hostname"] = name
    if owner["spec"].get("serviceName"):
        spec["subdomain"] = owner["spec"]["serviceName"]
    _add_claims(owner, spec, name)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _add_claims(owner: Object, spec: Object, pod_name: str) -> None:
    """Add a volume for each claim template. It replaces a volume of the same name (`updateStorage`)."""
    names = [template["metadata"]["name"] for template in owner["spec"].get("volumeClaimTemplates") or ()]
    if names:
        claimed = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{pod_name}"}} for name in names]
        spec["volumes"] = claimed + [one for one in spec.get("volumes") or () if one["name"] not in names]


def _identity(pod: Object, ordinal: int) -> dict[str, str]:
    return {POD_NAME: pod["metadata"]["name"], POD_INDEX: str(ordinal)}


def _has_identity(pod: Object, ordinal: int) -> bool:
    labels = labels_of(pod)
    return all(labels.get(key) == value for key, value in _identity(pod, ordinal).items())


def _with_identity(pod: Object, ordinal: int) -> Object:
    metadata = {**pod["metadata"], "labels": {**labels_of(pod), **_identity(pod, ordinal)}}
    return {**pod, "metadata": metadata}


def stateful_status(view: StatefulView, collisions: int) -> Object:
    """Return the status. When a rollout is complete, its revision becomes the current revision."""
    size, current, update = view.size, view.current["metadata"]["name"], view.update["metadata"]["name"]
    alive = [pod for pod in view.pods if not is_deleting(pod)]
    counts = {
        "readyReplicas": sum(map(is_running, view.pods)),
        "currentReplicas": sum(labels_of(pod).get(POD_HASH) == current for pod in alive),
        "updatedReplicas": sum(labels_of(pod).get(POD_HASH) == update for pod in alive),
    }
    replicas = len(view.pods)
    if view.rolls and counts["updatedReplicas"] == counts["readyReplicas"] == replicas == size:
        current, counts["currentReplicas"] = update, counts["updatedReplicas"]
    status: Object = {
        "observedGeneration": view.owner["metadata"].get("generation", 0),
        "replicas": replicas,
        **{key: value for key, value in counts.items() if value},
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": collisions,
        "availableReplicas": sum(view.wait_of(pod) == 0.0 for pod in view.pods),
    }
    conditions = (view.owner.get("status") or {}).get("conditions")
    if conditions:
        status["conditions"] = conditions
    return status
