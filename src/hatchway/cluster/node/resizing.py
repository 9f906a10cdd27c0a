"""The resources that a node has granted its pods, and waiting resizes (`pkg/kubelet/allocation/allocation_manager.go`).

A granted resize takes effect at once (`podgroups.py`, where limits are enforced), except for containers whose resize
policy asks for a restart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hatchway.cluster.amounts import ZERO, Amounts, amounts_of
from hatchway.cluster.hostports import HostPort, ports_clash
from hatchway.cluster.podresources import containers_of, pod_resources
from hatchway.kube.api import Object

__all__ = ["Grant", "NodeLedger", "Shortage", "needs_restart", "resize_message", "same_resources"]

_MILLI = 10**6
_UNITS = (("cpu", _MILLI), ("memory", _MILLI * 1000))
Resources = dict[str, Any]


def same_resources(left: Resources | None, right: Resources | None) -> bool:
    """Return True when requests and limits are the same amounts."""
    return not changed_names(left, right)


def changed_names(left: Resources | None, right: Resources | None) -> set[str]:
    """Return the resources whose request or limit differs."""
    found: set[str] = set()
    for kind in ("requests", "limits"):
        texts, others = (left or {}).get(kind) or {}, (right or {}).get(kind) or {}
        if texts != others:
            one, other = amounts_of(texts), amounts_of(others)
            found |= {
                name for name in {*one, *other} if one.get(name) is None or other.get(name) is None
                or one[name].nano != other[name].nano
            }  # fmt: skip
    return found


def needs_restart(container: Object, before: Resources | None) -> bool:
    """Return True when a container must be restarted for its changed resources to be in effect."""
    changed = changed_names(before, container.get("resources"))
    return any(
        one.get("restartPolicy") == "RestartContainer" and one.get("resourceName") in changed
        for one in container.get("resizePolicy") or ()
    )


@dataclass(slots=True)
class Grant:
    """The resources that a node has granted one pod.

    containers: the resources of each container, by its name.
    pod: the resources of the pod as a whole; None for none.
    """

    containers: dict[str, Resources] = field(default_factory=dict)
    pod: Resources | None = None

    @classmethod
    def of(cls, pod: Object) -> Grant:
        """Return a grant of all resources that a pod asks for."""
        spec = pod["spec"]
        return cls({one["name"]: one.get("resources") or {} for one in containers_of(spec)}, spec.get("resources"))

    @classmethod
    def restore(cls, pod: Object) -> Grant:
        """Return the grant that the pod's status contains; for a new pod, a grant of all requests."""
        found, status = cls.of(pod), pod.get("status") or {}
        for one in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
            granted, present = one.get("allocatedResources"), one.get("resources")
            if one.get("name") in found.containers and present is not None:
                requests = present.get("requests") if granted is None else granted
                found.containers[one["name"]] = {**present, **({"requests": requests} if requests else {})}
        if found.pod is not None and status.get("resources") is not None:
            found.pod = status["resources"]
        return found

    def covers(self, pod: Object) -> bool:
        """Return True when a pod asks for exactly these resources."""
        wanted = Grant.of(pod)
        return same_resources(self.pod, wanted.pod) and all(
            same_resources(self.containers.get(name), one) for name, one in wanted.containers.items()
        )

    def apply(self, container: Object) -> Object:
        """Return a container's spec with its granted resources."""
        found = self.containers.get(container["name"])
        if found is None or found == container.get("resources"):
            return container
        return {**container, "resources": found}

    def requests(self, pod: Object) -> Amounts:
        """Return the amounts that are reserved for a pod with this grant."""
        return pod_resources(self.applied(pod)["spec"], "requests", with_overhead=True)

    def applied(self, pod: Object) -> Object:
        """Return a pod with its granted resources."""
        spec = dict(pod["spec"])
        for kind in ("containers", "initContainers"):
            if kind in spec:
                spec[kind] = [self.apply(one) for one in spec[kind]]
        if self.pod is not None:
            spec["resources"] = self.pod
        return {**pod, "spec": spec}


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource of which a node has too little for a pod.

    Amounts are in thousandths of a core for cpu, in bytes for memory, and a number for pods.

    requested: the amount that the pod needs. used: the amount that other pods have. capacity: the amount of the node.
    """

    resource: str
    requested: int
    used: int
    capacity: int

    @property
    def message(self) -> str:
        """Return the message of the pod's status (`InsufficientResourceError`)."""
        return (
            f"Node didn't have enough resource: {self.resource}, requested: {self.requested}, used: {self.used}, "
            f"capacity: {self.capacity}"
        )


@dataclass(frozen=True, slots=True)
class _WaitingResize:
    """A pod whose resize waits.

    priority: the pod's priority.
    guaranteed: True if its quality of service is Guaranteed.
    retry: a function that asks for the resources again.
    """

    priority: int
    guaranteed: bool
    retry: Callable[[], None]


class NodeLedger:
    """The resources that are reserved for the pods of one node. allocatable: the node's resources, as quantities."""

    def __init__(self, allocatable: Mapping[str, str]) -> None:
        self._allocatable = allocatable
        self._reserved: dict[str, Amounts] = {}
        self._ports: dict[str, frozenset[HostPort]] = {}
        # The pods that have waited longest come first.
        self._waiting: dict[str, _WaitingResize] = {}

    def admit(self, uid: str, requests: Amounts, ports: frozenset[HostPort]) -> None:
        """Record the amounts that are reserved for a new pod."""
        self._ports[uid] = ports
        self.reserve(uid, requests)

    def reserve(self, uid: str, requests: Amounts) -> None:
        """Set the amounts that are reserved for a pod. If the amounts are lower than before, retry the waiting pods."""
        before = self._reserved.get(uid, {})
        self._reserved[uid] = requests
        self._waiting.pop(uid, None)
        if any(requests.get(name, ZERO).nano < before.get(name, ZERO).nano for name, _ in _UNITS):
            self.retry()

    def release(self, uid: str) -> None:
        """Remove a pod that has ended, and retry the waiting pods."""
        self._waiting.pop(uid, None)
        self._ports.pop(uid, None)
        if self._reserved.pop(uid, None) is not None:
            self.retry()

    def clashes(self, uid: str, ports: frozenset[HostPort]) -> bool:
        """Return True when another pod of the node has one of these host ports."""
        return bool(ports) and any(ports_clash(ports, used) for key, used in self._ports.items() if key != uid)

    def shortage(self, uid: str, requests: Amounts) -> Shortage | None:
        """Return the first resource of which the node has too little for these requests; None when it has enough."""
        room = int(self._allocatable.get("pods", "0"))
        others = sum(key != uid for key in self._reserved)
        if others + 1 > room:
            return Shortage("pods", 1, others, room)
        for name, unit in _UNITS:
            others = sum(amounts.get(name, ZERO).nano for key, amounts in self._reserved.items() if key != uid)
            wanted = requests.get(name, ZERO).nano
            there = amounts_of({name: self._allocatable.get(name, "0")})[name].nano
            if wanted > self._reserved.get(uid, {}).get(name, ZERO).nano and wanted + others > there:
                return Shortage(name, -(-wanted // unit), -(-others // unit), -(-there // unit))
        return None

    def wait(self, uid: str, pod: Object, retry: Callable[[], None]) -> None:
        """Let a pod's resize wait. `retry` is called each time the resize may fit, in the order of the waiting pods."""
        guaranteed = (pod.get("status") or {}).get("qosClass") == "Guaranteed"
        waiting = _WaitingResize(int(pod["spec"].get("priority") or 0), guaranteed, retry)
        if uid in self._waiting:
            # The pod keeps its place in the order.
            self._waiting[uid] = waiting
        else:
            self._waiting = {**self._waiting, uid: waiting}

    def give_up(self, uid: str) -> None:
        """Remove a pod from the waiting pods."""
        self._waiting.pop(uid, None)

    def retry(self) -> None:
        """Retry the waiting pods, ordered by priority, then Guaranteed pods before others, then by time of waiting."""
        for one in sorted(self._waiting.values(), key=lambda found: (-found.priority, not found.guaranteed)):
            one.retry()


def resize_message(prefix: str, pod: Object, error: str = "") -> str:
    """Return the message of an Event about a resize (`pkg/kubelet/events/resize.go`)."""
    found: Object = {}
    for key in ("initContainers", "containers"):
        if specs := pod["spec"].get(key):
            found[key] = [{"name": one["name"], "resources": one.get("resources") or {}} for one in specs]
    found["generation"] = pod["metadata"].get("generation", 0)
    if error:
        found["error"] = error
    return f"{prefix}: {json.dumps(found, separators=(',', ':'))}"
