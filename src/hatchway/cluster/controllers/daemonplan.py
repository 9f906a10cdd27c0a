"""Decides which nodes of a DaemonSet need a pod, and which pods are deleted (`daemon/daemon_controller.go`).

Its functions have no side effects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hatchway.cluster.controllers.objectfields import (
    annotations_of,
    available_in,
    clone,
    controller_reference,
    is_deleting,
    labels_of,
    pod_phase,
)
from hatchway.cluster.controllers.podcreation import pod_prefix
from hatchway.cluster.controllers.revisions import POD_HASH
from hatchway.cluster.controllers.rollout import resolve_percentage
from hatchway.cluster.controllers.scheduling.nodeselection import node_selected
from hatchway.cluster.controllers.scheduling.tolerations import untolerated
from hatchway.kube.api import Object
from hatchway.kube.objects import is_finished, is_ready
from hatchway.kube.wellknown import NOT_READY, UNREACHABLE, UNSCHEDULABLE

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_GENERATION_LABEL = "pod-template-generation"
_NODE_NAME = "metadata.name"
_TOLERATED = (
    (NOT_READY, "NoExecute"),
    (UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    (UNSCHEDULABLE, "NoSchedule"),
)
_HOST_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


def daemon_spec(owner: Object) -> Object:
    """Return the spec of the DaemonSet's pods, with the tolerations that every DaemonSet pod has."""
    spec: Object = clone(owner["spec"]["template"].get("spec") or {})
    wanted = [*_TOLERATED, *((_HOST_NETWORK,) if spec.get("hostNetwork") else ())]
    tolerations = [one for one in spec.get("tolerations") or () if (one.get("key"), one.get("effect")) not in wanted]
    tolerations += [{"key": key, "operator": "Exists", "effect": effect} for key, effect in wanted]
    return {**spec, "tolerations": tolerations}


def node_wants(spec: Object, node: Object) -> tuple[bool, bool]:
    """Return whether the node should get a pod with this spec, and whether such a pod may stay on the node."""
    if spec.get("nodeName") not in (None, "", node["metadata"]["name"]) or not node_selected(spec, node):
        return False, False
    taints, tolerations = node["spec"].get("taints") or (), spec["tolerations"]
    stays = untolerated(taints, tolerations, ("NoExecute",)) is None
    return stays and untolerated(taints, tolerations, ("NoSchedule",)) is None, stays


def target_node(pod: Object) -> str:
    """Return the name of the node that a pod is bound to, else of the node that its affinity requires; "" for none."""
    name: str = pod["spec"].get("nodeName") or ""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    for term in terms if not name else ():
        for one in term.get("matchFields") or ():
            if one.get("key") == _NODE_NAME and one.get("operator") == "In" and len(one.get("values") or ()) == 1:
                return str(one["values"][0])
    return name


def new_daemon_pod(owner: Object, spec: Object, node: str, label: str) -> Object:
    """Return the pod for a node.

    spec: the spec of all pods of the DaemonSet.
    label: the hash of the DaemonSet's template.
    """
    given = owner["spec"]["template"].get("metadata") or {}
    labels = {**(given.get("labels") or {}), POD_HASH: label}
    generation = annotations_of(owner).get(TEMPLATE_GENERATION)
    if generation:
        labels[_GENERATION_LABEL] = generation
    metadata: dict[str, Any] = {
        "generateName": pod_prefix(owner["metadata"]["name"]),
        "labels": labels,
        "ownerReferences": [controller_reference(owner)],
    }
    for key in ("annotations", "finalizers"):
        if given.get(key):
            metadata[key] = given[key]
    affinity = dict(spec.get("affinity") or {})
    term = {"matchFields": [{"key": _NODE_NAME, "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    affinity["nodeAffinity"] = {**(affinity.get("nodeAffinity") or {}), **required}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "affinity": affinity}}


@dataclass(slots=True)
class DaemonPlan:
    """The next actions for a DaemonSet.

    create: the names of nodes that get a pod.
    ended: the pods of `delete` that have ended.
    """

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    ended: list[Object] = field(default_factory=list)
    again: float | None = None


class DaemonView:
    """The current state of a DaemonSet, the nodes and the DaemonSet's pods. label: the hash of its template."""

    def __init__(self, owner: Object, nodes: Iterable[Object], pods: list[Object], label: str, now: datetime) -> None:
        self.owner = owner
        self.label = label
        self.now = now
        self.spec = daemon_spec(owner)
        self.nodes = {node["metadata"]["name"]: node_wants(self.spec, node) for node in nodes}
        self.on_node: dict[str, list[Object]] = {}
        for pod in sorted(pods, key=_age):
            if not (is_deleting(pod) and is_finished(pod)):
                self.on_node.setdefault(target_node(pod), []).append(pod)
        strategy = owner["spec"].get("updateStrategy") or {}
        self.rolls = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        rolling = (strategy.get("rollingUpdate") or {}) if self.rolls else {}
        desired = sum(wanted for wanted, _ in self.nodes.values())
        self.surge = resolve_percentage(rolling.get("maxSurge", 0), desired, up=True)
        self.unavailable = resolve_percentage(rolling.get("maxUnavailable", 1), desired, up=True)
        if not self.surge and not self.unavailable:
            self.unavailable = 1

    def is_new(self, pod: Object) -> bool:
        """Return True when the pod has the DaemonSet's template."""
        return labels_of(pod).get(POD_HASH) == self.label

    def wait_of(self, pod: Object) -> float | None:
        """Return the seconds until a pod is available; 0.0 when it is available, None while it is not ready."""
        return available_in(pod, self.owner["spec"].get("minReadySeconds", 0), self.now)

    def is_available(self, pod: Object) -> bool:
        """Return True when a pod has been ready for long enough."""
        return self.wait_of(pod) == 0.0


def _age(pod: Object) -> tuple[bool, str, str]:
    return not pod["spec"].get("nodeName"), pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]


def plan_daemon(view: DaemonView) -> DaemonPlan:
    """Return the next actions for a DaemonSet. A rollout continues only when each node has the pods it should have."""
    plan = DaemonPlan()
    if is_deleting(view.owner):
        return plan
    waiting = [seconds for pods in view.on_node.values() for pod in pods if (seconds := view.wait_of(pod))]
    plan.again = min(waiting) + 0.1 if waiting else None
    for name, (wanted, stays) in view.nodes.items():
        _place(view, plan, name, wanted, stays)
    for name, pods in view.on_node.items():
        if name not in view.nodes:
            # The node is gone, so the scheduler cannot bind these pods and no kubelet will end them.
            plan.delete += [pod for pod in pods if not pod["spec"].get("nodeName") and not is_deleting(pod)]
    if view.rolls and not plan.create and not plan.delete:
        (_surge if view.surge else _replace)(view, plan)
    return plan


def _place(view: DaemonView, plan: DaemonPlan, name: str, wanted: bool, stays: bool) -> None:
    """Decide about one node (`podsShouldBeOnNode`)."""
    pods = view.on_node.get(name, [])
    alive = [pod for pod in pods if not is_deleting(pod)]
    if not stays:
        plan.delete += alive
        return
    ended = [pod for pod in alive if is_finished(pod)]
    plan.ended += ended
    plan.delete += ended
    running = [pod for pod in alive if not is_finished(pod)]
    if wanted and not running and (not pods or view.surge) and not ended:
        plan.create.append(name)
    if not view.surge:
        plan.delete += running[1:]
        return
    new = [pod for pod in running if view.is_new(pod)]
    old = [pod for pod in running if not view.is_new(pod)]
    plan.delete += new[1:] + old[1:]
    if new and old and (not is_ready(old[0]) or view.is_available(new[0])):
        plan.delete.append(old[0])


def _replace(view: DaemonView, plan: DaemonPlan) -> None:
    """Delete pods with an old template, but only as many as may be unavailable.

    A later reconcile creates the new pods of their nodes.
    """
    unavailable, candidates = 0, []
    for name, (wanted, _) in sorted(view.nodes.items()):
        alive = [pod for pod in view.on_node.get(name, ()) if not is_deleting(pod)]
        if not alive:
            unavailable += wanted
            continue
        pod = alive[0]
        if not view.is_available(pod):
            unavailable += 1
            if not view.is_new(pod):
                plan.delete.append(pod)
        elif not view.is_new(pod):
            candidates.append(pod)
    plan.delete += candidates[: max(0, view.unavailable - unavailable)]


def _surge(view: DaemonView, plan: DaemonPlan) -> None:
    """Create new pods on nodes with old-template pods. `_place` deletes an old pod when the new pod is available."""
    surging, candidates = 0, []
    for name, (wanted, _) in sorted(view.nodes.items()):
        alive = [pod for pod in view.on_node.get(name, ()) if not is_deleting(pod)]
        new = [pod for pod in alive if view.is_new(pod)]
        if not alive or len(new) == len(alive):
            continue
        if new:
            surging += not view.is_available(new[0])
        elif not wanted:
            continue
        elif view.is_available(alive[0]):
            candidates.append(name)
        else:
            plan.create.append(name)
    plan.create += candidates[: max(0, view.surge - surging)]


def daemon_status(view: DaemonView, collisions: int) -> Object:
    """Return the status of the DaemonSet."""
    counts = dict.fromkeys(("desired", "current", "misscheduled", "ready", "available", "updated"), 0)
    for name, (wanted, _) in view.nodes.items():
        pods = view.on_node.get(name)
        if not wanted:
            counts["misscheduled"] += bool(pods)
            continue
        counts["desired"] += 1
        if pods:
            counts["current"] += 1
            counts["ready"] += is_ready(pods[0])
            counts["available"] += view.is_available(pods[0])
            counts["updated"] += view.is_new(pods[0])
    status: Object = {
        "currentNumberScheduled": counts["current"],
        "numberMisscheduled": counts["misscheduled"],
        "desiredNumberScheduled": counts["desired"],
        "numberReady": counts["ready"],
        "observedGeneration": view.owner["metadata"].get("generation", 0),
        "updatedNumberScheduled": counts["updated"],
        "numberAvailable": counts["available"],
        "numberUnavailable": counts["desired"] - counts["available"],
    }
    for key in ("updatedNumberScheduled", "numberAvailable", "numberUnavailable"):
        if not status[key]:
            del status[key]
    if collisions:
        status["collisionCount"] = collisions
    return status


def has_failed(pod: Object) -> bool:
    """Return True when the pod has ended with an error."""
    return pod_phase(pod) == "Failed"
