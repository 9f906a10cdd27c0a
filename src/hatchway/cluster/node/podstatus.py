"""Makes a pod's status from the states of its containers (`kubelet_pods.go`, `pkg/kubelet/status/generate.go`).

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatchway.kube.api import Object

# The types of conditions that the kubelet owns. All other conditions stay unchanged.
_OWNED = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
RESIZE_PENDING, RESIZE_IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
_RESIZES = (RESIZE_PENDING, RESIZE_IN_PROGRESS)


@dataclass(slots=True)
class ContainerState:
    """The status of one container.

    state, last: core/v1 ContainerState; {} for none. user: a core/v1 ContainerUser.
    spec: the container's spec, with the resources that the running process has.
    granted: the resources that its node has granted the container.
    """

    name: str
    image: str
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    container_id: str = ""
    image_id: str = ""
    user: Object = field(default_factory=lambda: {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}})
    spec: Object = field(default_factory=dict)
    granted: Object = field(default_factory=dict)

    @classmethod
    def restore(cls, spec: Object, known: Object | None) -> ContainerState:
        """Return a container's state from its containerStatus in the API. known: None when it has none."""
        found = cls(spec["name"], spec.get("image", ""), spec=spec, granted=spec.get("resources") or {})
        if known is not None:
            found.state = known.get("state") or {}
            found.last = known.get("lastState") or {}
            found.restarts = known.get("restartCount") or 0
            found.container_id = known.get("containerID") or ""
            found.image_id = known.get("imageID") or ""
            found.user = known.get("user") or found.user
        return found

    def wait(self, reason: str, message: str = "") -> None:
        """Record that the container waits for its next start. Its previous end becomes its last state."""
        if terminated := self.state.get("terminated"):
            self.last = {"terminated": terminated}
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}

    @property
    def running(self) -> bool:
        """Return True while the container's process runs."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of the ended process; None while the container runs or waits for its next start."""
        terminated = self.state.get("terminated")
        return None if terminated is None else int(terminated.get("exitCode", 0))

    def as_dict(self) -> Object:
        """Return the container's status as a core/v1 ContainerStatus."""
        out: Object = {
            "name": self.name,
            "state": self.state,
            "lastState": self.last,
            "ready": self.ready,
            "restartCount": self.restarts,
            "image": self.image,
            "imageID": self.image_id,
            "started": self.started,
        }
        if not self.container_id:
            return out
        out["containerID"] = self.container_id
        resources = self.spec.get("resources") or {}
        out["resources"] = {key: value for key, value in resources.items() if key != "claims" or value}
        if requests := self.granted.get("requests"):
            out["allocatedResources"] = requests
        out["user"] = self.user
        if mounts := self.spec.get("volumeMounts"):
            out["volumeMounts"] = [_mount(mount) for mount in mounts]
        return out


def _mount(mount: Object) -> Object:
    """Return a core/v1 VolumeMountStatus.

    Read-only mounts are always recursive in this cluster, so `IfPossible` becomes `Enabled`.
    """
    found = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        wanted = mount.get("recursiveReadOnly") or "Disabled"
        found |= {"readOnly": True, "recursiveReadOnly": "Enabled" if wanted == "IfPossible" else wanted}
    return found


@dataclass(slots=True)
class PodState:
    """The facts from which a pod's status is made.

    ip: the pod's address; "" before there is a sandbox.
    initialized: True when all init containers have ended, and all sidecars have started.
    reason, message: why the pod as a whole has failed (DeadlineExceeded, Evicted); "" when it has not.
    rejected: True when the node has refused to run the pod.
    terminal: True when none of its containers will run again.
    sidecars: the names of init containers that keep running beside the other containers.
    ephemeral: the ephemeral containers.
    resizes: the conditions about the pod's resize, by type: (reason, message, generation of the pod).
    granted: the resources that the node has granted the pod as a whole; None for none.
    """

    init: Sequence[ContainerState]
    containers: Sequence[ContainerState]
    host_ip: str
    start_time: str
    ip: str = ""
    has_sandbox: bool = False
    initialized: bool = False
    reason: str = ""
    message: str = ""
    rejected: bool = False
    terminal: bool = False
    sidecars: frozenset[str] = frozenset()
    ephemeral: Sequence[ContainerState] = ()
    resizes: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    granted: Object | None = None


def phase(pod: Object, state: PodState) -> str:
    """Compute the phase from the containers' states and the pod's restart policy (getPhase)."""
    if state.reason:
        return "Failed"
    if state.terminal:
        # A terminal pod gets a final phase, even if its policy would restart containers (since 1.27).
        return "Succeeded" if all(container.exit_code == 0 for container in state.containers) else "Failed"
    policy = pod["spec"].get("restartPolicy") or "Always"
    for init in state.init:
        if init.name in state.sidecars:
            continue
        if init.exit_code not in (None, 0) and policy == "Never":
            return "Failed"
    codes = [container.exit_code for container in state.containers]
    if not state.initialized and all(code is None for code in codes) and not any(c.running for c in state.containers):
        return "Pending"
    if all(code is not None for code in codes):
        if policy == "Always":
            return "Running"
        if all(code == 0 for code in codes):
            return "Succeeded"
        return "Failed" if policy == "Never" else "Running"
    if any(_is_fresh(container) for container in state.containers):
        return "Pending"
    return "Running"


def _is_fresh(container: ContainerState) -> bool:
    """Return True when a container waits for its first start."""
    return "waiting" in container.state and not container.last


def build(pod: Object, state: PodState, now: str) -> Object:
    """Return the status for a merge patch. Fields that are missing in the result stay unchanged in the API."""
    known = pod.get("status") or {}
    if state.rejected:
        start = known.get("startTime") or state.start_time
        return {"phase": "Failed", "reason": state.reason, "message": state.message, "startTime": start}
    found_phase = phase(pod, state)
    done = found_phase in ("Succeeded", "Failed")
    status: Object = {
        "phase": found_phase,
        "hostIP": state.host_ip,
        "hostIPs": [{"ip": state.host_ip}],
        "startTime": known.get("startTime") or state.start_time,
        "conditions": _conditions(pod, state, done, found_phase, now),
        "containerStatuses": [container.as_dict() for container in _sorted(state.containers)],
    }
    if state.init:
        status["initContainerStatuses"] = [container.as_dict() for container in state.init]
    if state.ephemeral:
        status["ephemeralContainerStatuses"] = [container.as_dict() for container in state.ephemeral]
    if state.ip:
        status["podIP"] = state.ip
        status["podIPs"] = [{"ip": state.ip}]
    if state.granted is not None:
        status["resources"] = state.granted
        if requests := state.granted.get("requests"):
            status["allocatedResources"] = requests
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    if state.reason:
        status["reason"], status["message"] = state.reason, state.message
    return status


def _sorted(containers: Sequence[ContainerState]) -> list[ContainerState]:
    return sorted(containers, key=lambda container: container.name)


def _conditions(pod: Object, state: PodState, done: bool, found_phase: str, now: str) -> list[Object]:
    old = {condition["type"]: condition for condition in (pod.get("status") or {}).get("conditions") or ()}
    waiting = [container.name for container in state.containers if not container.ready]
    incomplete = [
        container.name
        for container in state.init
        if not (container.started if container.name in state.sidecars else container.exit_code == 0)
    ]
    unready_sidecars = [c.name for c in state.init if c.name in state.sidecars and not c.ready]
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    missing = [gate for gate in gates if (old.get(gate) or {}).get("status") != "True"]

    wanted: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (state.has_sandbox, "", ""),
        "Initialized": (True, "", ""),
        "ContainersReady": (True, "", ""),
        "Ready": (True, "", ""),
    }
    if found_phase == "Succeeded":
        wanted["Initialized"] = (True, "PodCompleted", "")
        wanted["ContainersReady"] = wanted["Ready"] = (False, "PodCompleted", "")
    else:
        if not state.initialized and incomplete:
            wanted["Initialized"] = (
                False,
                "ContainersNotInitialized",
                f"containers with incomplete status: [{' '.join(incomplete)}]",
            )
        unready = [*unready_sidecars, *waiting]
        if done:
            wanted["ContainersReady"] = wanted["Ready"] = (False, "PodFailed", "")
        elif unready:
            why = f"containers with unready status: [{' '.join(unready)}]"
            wanted["ContainersReady"] = wanted["Ready"] = (False, "ContainersNotReady", why)
        elif missing:
            why = "; ".join(
                f'corresponding condition of pod readiness gate "{gate}" does not exist.'
                if gate not in old
                else f'the status of pod readiness gate "{gate}" is not "True", but {old[gate]["status"]}'
                for gate in missing
            )
            wanted["Ready"] = (False, "ReadinessGatesNotReady", why)
    conditions = [_condition(old.get(kind), kind, *wanted[kind], pod, now) for kind in _OWNED]
    if not done:
        conditions += [
            _resize(old.get(kind), kind, *state.resizes[kind], now)
            for kind in (RESIZE_PENDING, RESIZE_IN_PROGRESS)
            if kind in state.resizes
        ]
    others = [condition for kind, condition in old.items() if kind not in (*_OWNED, *_RESIZES)]
    if "PodScheduled" not in old:
        others.append(_condition(None, "PodScheduled", True, "", "", pod, now))
    return [*conditions, *others]


def _condition(
    old: Mapping[str, Any] | None, kind: str, status: bool, reason: str, message: str, pod: Object, now: str
) -> Object:
    text = "True" if status else "False"
    changed = old is None or old.get("status") != text
    condition: Object = {
        "type": kind,
        "status": text,
        "lastProbeTime": None,
        "lastTransitionTime": now if changed or old is None else old.get("lastTransitionTime", now),
    }
    if pod["metadata"].get("generation"):
        condition["observedGeneration"] = pod["metadata"]["generation"]
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _resize(old: Mapping[str, Any] | None, kind: str, reason: str, message: str, generation: int, now: str) -> Object:
    same = old is not None and old.get("reason", "") == reason
    found: Object = {
        "type": kind,
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": old.get("lastTransitionTime", now) if same and old is not None else now,
        "observedGeneration": generation,
    }
    return found | {key: text for key, text in (("reason", reason), ("message", message)) if text}


def patch(current: Object, wanted: Object) -> Object:
    """Return the merge patch (RFC 7396) that changes the status `current` to `wanted`; {} when they are equal.

    Lists are compared without keys whose value is null, because an API server may not store such keys.
    """
    return {key: value for key, value in wanted.items() if _plain(current.get(key)) != _plain(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None and item != {}}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
