"""The printer of pods: ready containers, one word for the state, restarts (`printPod`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Column, Printer
from hatchway.cluster.api.registry.printers.humanize import NONE, age, human_duration, seconds

__all__ = ["POD"]

Json = dict[str, Any]


def _pod(pod: Json, now: float) -> list[Any]:
    """Return the cells of a pod's row; `now` in seconds since the epoch."""
    metadata, spec, status = pod.get("metadata", {}), pod.get("spec", {}), pod.get("status", {})
    state = _PodSummary(pod)
    restarts = str(state.restarts)
    if state.restarts and state.last_restart is not None:
        restarts += f" ({human_duration(now - state.last_restart)} ago)"
    addresses = status.get("podIPs") or [{"ip": status.get("podIP", "")}]
    return [
        metadata.get("name", ""),
        f"{state.ready}/{state.total}",
        state.reason,
        restarts,
        age(metadata.get("creationTimestamp"), now),
        addresses[0].get("ip") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(spec, status) or NONE,
    ]


def _readiness_gates(spec: Json, status: Json) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return ""
    true = {one.get("type") for one in status.get("conditions") or () if one.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in true for gate in gates)}/{len(gates)}"


def _condition(status: Json, kind: str) -> Json:
    found: Json = next((one for one in status.get("conditions") or () if one.get("type") == kind), {})
    return found


def _exit(terminated: Json) -> str:
    """Return the word that kubectl prints for the way a container ended."""
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


class _PodSummary:
    """A summary of a pod's container statuses."""

    def __init__(self, pod: Json) -> None:
        spec, status = pod.get("spec", {}), pod.get("status", {})
        inits = {one.get("name"): one for one in spec.get("initContainers") or ()}
        self._sidecars = {name for name, one in inits.items() if one.get("restartPolicy") == "Always"}
        self.total = len(spec.get("containers") or ()) + len(self._sidecars)
        self.ready = self.restarts = 0
        self.last_restart: float | None = None
        self.reason = str(status.get("reason") or status.get("phase") or "")
        if _condition(status, "PodScheduled").get("reason") == "SchedulingGated":
            self.reason = "SchedulingGated"
        initializing = self._count_init_containers(status, len(inits))
        if not initializing or _condition(status, "Initialized").get("status") == "True":
            self._run(status)
        if pod.get("metadata", {}).get("deletionTimestamp"):
            if status.get("reason") == "NodeLost":
                self.reason = "Unknown"
            elif status.get("phase") not in ("Succeeded", "Failed"):
                self.reason = "Terminating"

    def _count(self, container: Json) -> None:
        self.restarts += container.get("restartCount", 0)
        finished = seconds((container.get("lastState", {}).get("terminated") or {}).get("finishedAt"))
        if finished is not None and (self.last_restart is None or finished > self.last_restart):
            self.last_restart = finished

    def _count_init_containers(self, status: Json, count: int) -> bool:
        """Count the init containers. If one has not finished, set its state as the pod's reason, and return True."""
        for index, container in enumerate(status.get("initContainerStatuses") or ()):
            self._count(container)
            state = container.get("state", {})
            terminated, waiting = state.get("terminated"), state.get("waiting") or {}
            if terminated is not None and terminated.get("exitCode", 0) == 0:
                continue
            if container.get("name") in self._sidecars and container.get("started"):
                self.ready += bool(container.get("ready"))
                continue
            if terminated is not None:
                self.reason = f"Init:{_exit(terminated)}"
            elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
                self.reason = f"Init:{waiting['reason']}"
            else:
                self.reason = f"Init:{index}/{count}"
            return True
        return False

    def _run(self, status: Json) -> None:
        # When the containers run, restarts of finished init containers do not count. Restarts of sidecars still count.
        self.restarts, self.last_restart = 0, None
        for container in status.get("initContainerStatuses") or ():
            if container.get("name") in self._sidecars:
                self._count(container)
        running = False
        for container in reversed(status.get("containerStatuses") or ()):
            self._count(container)
            state = container.get("state", {})
            waiting, terminated = state.get("waiting") or {}, state.get("terminated")
            if waiting.get("reason"):
                self.reason = str(waiting["reason"])
            elif terminated is not None:
                self.reason = _exit(terminated)
            elif container.get("ready") and state.get("running") is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed" and running:
            self.reason = "Running" if _condition(status, "Ready").get("status") == "True" else "NotReady"


def _conditions(obj: Json) -> list[Json]:
    """Return the conditions of a pod's row: `Completed` for a pod that has ended, else none."""
    phase = obj.get("status", {}).get("phase")
    if phase == "Succeeded":
        message = "The pod has completed successfully."
    elif phase == "Failed":
        message = "The pod failed."
    else:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


POD = Printer(
    _pod,
    NAME,
    Column("Ready", description="How many of the containers are ready"),
    Column("Status", description="The state of the containers, in one word"),
    Column("Restarts", description="Number of restarts of containers, and the time since the last one"),
    AGE,
    Column("IP", wide=True, description="The pod's address"),
    Column("Node", wide=True, description="The node on which the pod runs"),
    Column("Nominated Node", wide=True, description="The node on which the scheduler makes room for the pod"),
    Column("Readiness Gates", wide=True, description="How many of the pod's readiness gates are true"),
    conditions=_conditions,
)
