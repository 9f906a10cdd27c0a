"""kube-state-metrics' metrics of pods (`internal/store/pod.go`). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

from hatchway.addons.metrics.statefamilies import (
    Family,
    Samples,
    boolean,
    condition_samples,
    created,
    deleted,
    owners,
    resource_samples,
    seconds,
    since,
    status_of,
)
from hatchway.kube.api import Object

__all__ = ["POD_FAMILIES"]

_PHASES = ("Pending", "Succeeded", "Failed", "Unknown", "Running")
_CLASSES = ("BestEffort", "Burstable", "Guaranteed")
_REASONS = (
    "Evicted", "NodeAffinity", "NodeLost", "PreemptionByScheduler", "SchedulingGated", "Shutdown",
    "TerminationByKubelet", "UnexpectedAdmissionError",
)  # fmt: skip


def _info(pod: Object) -> Samples:
    spec, status = pod["spec"], status_of(pod)
    references = pod["metadata"].get("ownerReferences") or ()
    owner: dict[str, Any] = next((one for one in references if one.get("controller")), {})
    labels = {
        "host_ip": status.get("hostIP", ""),
        "pod_ip": status.get("podIP", ""),
        "node": spec.get("nodeName", ""),
        "created_by_kind": owner.get("kind", ""),
        "created_by_name": owner.get("name", ""),
        "priority_class": spec.get("priorityClassName", ""),
        "host_network": str(bool(spec.get("hostNetwork"))).lower(),
    }
    return [(labels, 1.0)]


def _ips(pod: Object) -> Iterator[tuple[dict[str, str], float]]:
    for one in status_of(pod).get("podIPs") or ():
        try:
            version = ipaddress.ip_address(one.get("ip", "")).version
        except ValueError:
            continue
        yield {"ip": one["ip"], "ip_family": str(version)}, 1.0


def _one_of(label: str, values: tuple[str, ...], read: Callable[[Object], str]) -> Callable[[Object], Samples]:
    def samples(pod: Object) -> Samples:
        found = read(pod)
        return [({label: one}, boolean(one == found)) for one in values] if found else []

    return samples


def _condition(kind: str) -> Callable[[Object], Samples]:
    def samples(pod: Object) -> Samples:
        for one in status_of(pod).get("conditions") or ():
            if one.get("type") == kind:
                return list(condition_samples(one.get("status", ""), "condition"))
        return []

    return samples


def _condition_time(kind: str) -> Callable[[Object], Samples]:
    def samples(pod: Object) -> Samples:
        for one in status_of(pod).get("conditions") or ():
            if one.get("type") == kind and one.get("status") == "True":
                return since(one.get("lastTransitionTime"))
        return []

    return samples


def _unschedulable(pod: Object) -> Samples:
    conditions = status_of(pod).get("conditions") or ()
    return [({}, 1.0) for one in conditions if one.get("type") == "PodScheduled" and one.get("status") == "False"]


def _reason(pod: Object) -> Iterator[tuple[dict[str, str], float]]:
    status = status_of(pod)
    found = {status.get("reason"), *(one.get("reason") for one in status.get("conditions") or ())}
    for one in status.get("containerStatuses") or ():
        found.add(((one.get("state") or {}).get("terminated") or {}).get("reason"))
    for reason in _REASONS:
        if reason in found:
            yield {"reason": reason}, 1.0
    if status.get("reason") and status["reason"] not in _REASONS:
        yield {"reason": "Other"}, 1.0


def _completion(pod: Object) -> Samples:
    last = None
    for one in status_of(pod).get("containerStatuses") or ():
        ended = seconds(((one.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        if ended is not None and (last is None or ended > last):
            last = ended
    return [({}, last)] if last is not None and status_of(pod).get("phase") in ("Succeeded", "Failed") else []


def _containers(specs: str, statuses: str) -> Callable[[Object], Samples]:
    """Return a function that makes the samples of kube_pod_container_info.

    specs, statuses: the fields with the containers in the pod's spec and status.
    """

    def samples(pod: Object) -> Iterator[tuple[dict[str, str], float]]:
        known = {one.get("name"): one for one in status_of(pod).get(statuses) or ()}
        for spec in pod["spec"].get(specs) or ():
            status = known.get(spec["name"])
            if status is not None:
                labels = {
                    "container": spec["name"],
                    "image_spec": spec.get("image", ""),
                    "image": status.get("image", ""),
                    "image_id": status.get("imageID", ""),
                    "container_id": status.get("containerID", ""),
                }
                yield labels, 1.0

    return samples


def _resources(specs: str, kind: str) -> Callable[[Object], Samples]:
    def samples(pod: Object) -> Iterator[tuple[dict[str, str], float]]:
        for spec in pod["spec"].get(specs) or ():
            found = (spec.get("resources") or {}).get(kind)
            yield from resource_samples(found, container=spec["name"], node=pod["spec"].get("nodeName", ""))

    return samples


def _each(statuses: str, read: Callable[[dict[str, Any]], float | None]) -> Callable[[Object], Samples]:
    """Return a function that makes one sample for each container.

    statuses: the field with the containers' statuses. read: returns a status's value; None for no sample.
    """

    def samples(pod: Object) -> Iterator[tuple[dict[str, str], float]]:
        for one in status_of(pod).get(statuses) or ():
            value = read(one)
            if value is not None:
                yield {"container": one.get("name", "")}, value

    return samples


def _reasons(statuses: str, where: str, state: str) -> Callable[[Object], Samples]:
    """Return a function that makes a sample with the reason of each container's state.

    statuses: the field with the containers' statuses. where: `state` or `lastState`. state: "waiting" or "terminated".
    """

    def samples(pod: Object) -> Iterator[tuple[dict[str, str], float]]:
        for one in status_of(pod).get(statuses) or ():
            found = (one.get(where) or {}).get(state)
            if found is not None and found.get("reason"):
                yield {"container": one.get("name", ""), "reason": found["reason"]}, 1.0

    return samples


def _is(state: str) -> Callable[[dict[str, Any]], float]:
    return lambda status: boolean((status.get("state") or {}).get(state) is not None)


def _started(status: dict[str, Any]) -> float | None:
    state = status.get("state") or {}
    return seconds((state.get("running") or state.get("terminated") or {}).get("startedAt"))


def _last_exit_code(status: dict[str, Any]) -> float | None:
    ended = (status.get("lastState") or {}).get("terminated")
    return None if ended is None else float(ended.get("exitCode") or 0)


def _last_ended(status: dict[str, Any]) -> float | None:
    return seconds(((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))


def _container_families(prefix: str, noun: str, specs: str, statuses: str) -> tuple[Family, ...]:
    status = f"{prefix}_status"
    return (
        Family(f"{prefix}_info", f"Information about {noun} in a pod.", _containers(specs, statuses)),
        Family(
            f"{prefix}_resource_requests",
            f"The number of requested request resource by {noun}.",
            _resources(specs, "requests"),
        ),
        Family(
            f"{prefix}_resource_limits",
            f"The number of requested limit resource by {noun}.",
            _resources(specs, "limits"),
        ),
        Family(
            f"{prefix}_state_started", "Start time in unix timestamp for a pod container.", _each(statuses, _started)
        ),
        Family(
            f"{status}_waiting",
            f"Describes whether {noun} is currently in waiting state.",
            _each(statuses, _is("waiting")),
        ),
        Family(
            f"{status}_waiting_reason",
            f"Describes the reason {noun} is currently in waiting state.",
            _reasons(statuses, "state", "waiting"),
        ),
        Family(
            f"{status}_running",
            f"Describes whether {noun} is currently in running state.",
            _each(statuses, _is("running")),
        ),
        Family(
            f"{status}_terminated",
            f"Describes whether {noun} is currently in terminated state.",
            _each(statuses, _is("terminated")),
        ),
        Family(
            f"{status}_terminated_reason",
            f"Describes the reason {noun} is currently in terminated state.",
            _reasons(statuses, "state", "terminated"),
        ),
        Family(
            f"{status}_last_terminated_reason",
            f"Describes the last reason {noun} was in terminated state.",
            _reasons(statuses, "lastState", "terminated"),
        ),
        Family(
            f"{status}_last_terminated_exitcode",
            f"Describes the exit code for the last {noun} in terminated state.",
            _each(statuses, _last_exit_code),
        ),
        Family(
            f"{status}_last_terminated_timestamp",
            f"Last terminated time for {noun} in unix timestamp.",
            _each(statuses, _last_ended),
        ),
        Family(
            f"{status}_ready",
            "Describes whether the containers readiness check succeeded.",
            _each(statuses, lambda one: boolean(bool(one.get("ready")))),
        ),
        Family(
            f"{status}_restarts_total",
            f"The number of {noun} restarts per container.",
            _each(statuses, lambda one: float(one.get("restartCount") or 0)),
            "counter",
        ),
    )


POD_FAMILIES = (
    Family("kube_pod_info", "Information about pod.", _info),
    Family("kube_pod_owner", "Information about the Pod's owner.", owners(controller=True)),
    Family("kube_pod_ips", "Pod IP addresses", _ips),
    Family("kube_pod_created", "Unix creation timestamp", created),
    Family("kube_pod_deletion_timestamp", "Unix deletion timestamp", deleted),
    Family(
        "kube_pod_start_time",
        "Start time in unix timestamp for a pod.",
        lambda pod: since(status_of(pod).get("startTime")),
    ),
    Family("kube_pod_completion_time", "Completion time in unix timestamp for a pod.", _completion),
    Family(
        "kube_pod_restart_policy",
        "Describes the restart policy in use by this pod.",
        lambda pod: [({"type": pod["spec"].get("restartPolicy", "Always")}, 1.0)],
    ),
    Family(
        "kube_pod_service_account",
        "The service account for a pod.",
        lambda pod: [({"service_account": pod["spec"].get("serviceAccountName", "")}, 1.0)],
    ),
    Family(
        "kube_pod_scheduler",
        "The scheduler for a pod.",
        lambda pod: [({"name": pod["spec"].get("schedulerName", "")}, 1.0)],
    ),
    Family(
        "kube_pod_status_phase",
        "The pods current phase.",
        _one_of("phase", _PHASES, lambda pod: str(status_of(pod).get("phase") or "")),
    ),
    Family(
        "kube_pod_status_qos_class",
        "The pods current qosClass.",
        _one_of("qos_class", _CLASSES, lambda pod: str(status_of(pod).get("qosClass") or "")),
    ),
    Family("kube_pod_status_reason", "The pod status reasons", _reason),
    Family("kube_pod_status_ready", "Describes whether the pod is ready to serve requests.", _condition("Ready")),
    Family(
        "kube_pod_status_scheduled",
        "Describes the status of the scheduling process for the pod.",
        _condition("PodScheduled"),
    ),
    Family("kube_pod_status_unschedulable", "Describes the unschedulable status for the pod.", _unschedulable),
    Family(
        "kube_pod_status_scheduled_time",
        "Unix timestamp when pod moved into scheduled status",
        _condition_time("PodScheduled"),
    ),
    Family(
        "kube_pod_status_initialized_time",
        "Initialized time in unix timestamp for a pod.",
        _condition_time("Initialized"),
    ),
    Family(
        "kube_pod_status_ready_time", "Readiness achieved time in unix timestamp for a pod.", _condition_time("Ready")
    ),
    Family(
        "kube_pod_status_container_ready_time",
        "Readiness achieved time in unix timestamp for a pod containers.",
        _condition_time("ContainersReady"),
    ),
    *_container_families("kube_pod_container", "a container", "containers", "containerStatuses"),
    *_container_families("kube_pod_init_container", "an init container", "initContainers", "initContainerStatuses"),
)
