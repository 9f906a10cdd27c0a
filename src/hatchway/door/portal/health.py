"""Why a pod or a node is not ready, in words for people. Pure.

Behaviour: the kubelet's `status_manager.go` and the scheduler write what is read here.
"""

from __future__ import annotations

from typing import Any

from hatchway.kube.api import Object

# A node that is down tells nothing: its pods keep their last status, and the node controller marks them.
_NODE_LOST = "NodeLost"


def condition(obj: Object, kind: str) -> Object | None:
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind:
            return dict(found)
    return None


def holds(obj: Object, kind: str) -> bool:
    return (condition(obj, kind) or {}).get("status") == "True"


def why_pod_not_ready(pod: Object) -> str:
    """ "" for a ready pod, else one line: what it waits for, and where it says so itself, in its own words."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    phase = status.get("phase") or "Pending"
    if metadata.get("deletionTimestamp"):
        return "is being deleted"
    if phase == "Succeeded":
        return "has finished"
    if phase == "Failed":
        return _sentence("has failed", status.get("reason"), status.get("message")) + _failed_container(status)
    if status.get("reason") == _NODE_LOST:
        return _sentence("its node is lost", "", status.get("message"))
    if holds(pod, "Ready"):
        return ""
    scheduled = condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return _sentence("cannot be scheduled", "", scheduled.get("message"))
    if found := _waiting_container(pod, status):
        return found
    ready = condition(pod, "Ready") or {}
    if phase == "Pending":
        return _sentence("is starting", ready.get("reason"), "")
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    for gate in gates:
        if not holds(pod, gate):
            return f"waits for its readiness gate {gate}"
    return _sentence("is not ready", ready.get("reason"), ready.get("message"))


def _waiting_container(pod: Object, status: Any) -> str:
    initial = status.get("initContainerStatuses") or ()
    for found in [*initial, *(status.get("containerStatuses") or ())]:
        state, name = found.get("state") or {}, found.get("name", "")
        if (waiting := state.get("waiting")) and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
            last = (found.get("lastState") or {}).get("terminated") or {}
            text = _sentence(f"container {name} waits", waiting.get("reason"), waiting.get("message"))
            return text + (f"; it ended with exit code {last['exitCode']} before" if "exitCode" in last else "")
        if (ended := state.get("terminated")) and (ended.get("exitCode") or found not in initial):
            return _sentence(
                f"container {name} ended with exit code {ended.get('exitCode', 0)}",
                ended.get("reason"),
                ended.get("message"),
            )
        if found in initial and state.get("running") and not found.get("started"):
            return f"init container {name} is still running"
    probed = {c["name"] for c in pod["spec"].get("containers") or () if c.get("readinessProbe")}
    for found in status.get("containerStatuses") or ():
        if (found.get("state") or {}).get("running") and not found.get("ready") and found.get("name") in probed:
            return f"container {found['name']} runs, but its readiness probe fails"
    return ""


def _failed_container(status: Any) -> str:
    for found in status.get("containerStatuses") or ():
        if ended := (found.get("state") or {}).get("terminated"):
            return f"; container {found.get('name', '')} ended with exit code {ended.get('exitCode', 0)}"
    return ""


def restarts(pod: Object) -> int:
    """How often the pod's containers were started again."""
    return sum(int(c.get("restartCount") or 0) for c in (pod.get("status") or {}).get("containerStatuses") or ())


def why_node_not_ready(node: Object) -> str:
    """ "" for a ready node, else one line."""
    found = condition(node, "Ready")
    if found is None:
        return "has not reported yet"
    if found.get("status") == "True":
        return ""
    return _sentence("is not ready", found.get("reason"), found.get("message"))


def _sentence(what: str, reason: str | None, message: str | None) -> str:
    said = ": ".join(part for part in (reason, message) if part)
    return f"{what}: {said}" if said else what
