"""Computes the number of replicas that a metric requires (`podautoscaler/replica_calculator.go`). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from hatchway.cluster.controllers.objectfields import is_deleting, parse_time, pod_phase
from hatchway.cluster.controllers.podmetrics import NoMetrics, PodUsage
from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition, is_ready


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far usage may differ from its target without scaling, as a fraction of the target: 0.1 is 10 percent."""

    down: float
    up: float

    def covers(self, ratio: float) -> bool:
        """Return True when `ratio`, which is usage divided by its target, is within the tolerance around 1."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Delays:
    """Times after a pod's start, in seconds, in which its CPU usage may not count.

    cpu_initialization: the pod's CPU usage counts in this time only if it was measured while the pod was ready.
    initial_readiness: a pod that became unready within this time was never ready, so its CPU usage does not count.
    """

    cpu_initialization: float = 300.0
    initial_readiness: float = 30.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """The number of replicas that a metric requires.

    utilization: usage in percent of the requests; None without requests.
    average: usage per pod, in thousandths of the unit.
    """

    replicas: int
    utilization: int | None
    average: int


@dataclass(slots=True)
class _Groups:
    """The pods in groups.

    ready: the number of pods whose usage counts.
    unready: the names of pods whose usage is not meaningful yet.
    missing: the names of pods whose usage is not known.
    ignored: the names of deleted or failed pods.
    """

    ready: int
    unready: list[str]
    missing: list[str]
    ignored: list[str]


def propose(
    current: int,
    target: int,
    pods: list[Object],
    usage: Mapping[str, PodUsage],
    *,
    resource: str,
    requests: Mapping[str, int] | None,
    tolerance: Tolerance,
    delays: Delays,
    moment: datetime,
) -> Proposal:
    """Compute how many replicas bring the pods' usage to its target.

    Args:
        current: the present number of replicas.
        target: percent of the requests; without `requests`, the usage per pod in thousandths of the unit.
        pods: the target's pods.
        usage: the usage of pods, by their names.
        resource: the resource, such as "cpu".
        requests: the request of each pod, in thousandths (`pod_requests`); None for a target per pod.
        tolerance: how far the usage may be from its target without scaling.
        delays: how long the usage of a started pod does not count.
        moment: now.

    Raises:
        NoMetrics: no pod has usage that counts.
    """
    if not pods:
        raise NoMetrics("no pods returned by selector while calculating replica count")
    groups = _grouped(pods, usage, resource, delays, moment)
    values = {name: one.value for name, one in usage.items()}
    for name in (*groups.ignored, *groups.unready):
        values.pop(name, None)
    if not values:
        raise NoMetrics("did not receive metrics for targeted pods (pods might be unready)")
    ratio, utilization, average = _ratio(values, requests, target)
    unready_count = bool(groups.unready) and ratio > 1.0
    if not unready_count and not groups.missing:
        replicas = current if tolerance.covers(ratio) else math.ceil(ratio * groups.ready)
        return Proposal(replicas, utilization, average)
    # Pods whose usage is missing get the assumed usage that makes the change smaller.
    if ratio < 1.0:
        for name in groups.missing:
            values[name] = target if requests is None else requests.get(name, 0) * max(100, target) // 100
    elif ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if unready_count:
        values |= dict.fromkeys(groups.unready, 0)
    changed, _, _ = _ratio(values, requests, target)
    if tolerance.covers(changed) or (ratio < 1.0 < changed) or (changed < 1.0 < ratio):
        return Proposal(current, utilization, average)
    replicas = math.ceil(changed * len(values))
    if (changed < 1.0 and replicas > current) or (changed > 1.0 and replicas < current):
        replicas = current
    return Proposal(replicas, utilization, average)


def propose_by_value(current: int, usage: int, target: int, pods: list[Object], tolerance: Tolerance) -> int:
    """Compute how many replicas bring one value, which all pods share, to its target (getUsageRatioReplicaCount).

    Args:
        current: the present number of replicas; if it is 0, the result depends only on the value.
        usage, target: thousandths of the unit.
        pods: the target's pods.
        tolerance: how far the value may be from its target without scaling.

    Raises:
        NoMetrics: there are no pods.
    """
    ratio = usage / target
    if current == 0:
        return math.ceil(ratio)
    if tolerance.covers(ratio):
        return current
    if not pods:
        why = "no pods returned by selector while calculating replica count"
        raise NoMetrics(f"unable to calculate ready pods: {why}")
    return math.ceil(ratio * sum(pod_phase(pod) == "Running" and is_ready(pod) for pod in pods))


def propose_by_average(counted: int, usage: int, target: int, tolerance: Tolerance) -> tuple[int, int]:
    """Compute how many replicas are needed so that `usage`, divided by their number, is the target per pod.

    counted: the present number of pods.
    usage, target: thousandths of the unit; `target` is per pod.

    Returns (the number of replicas, the value per pod), as GetExternalPerPodMetricReplicas.
    """
    replicas = counted
    if not counted or not tolerance.covers(usage / (target * counted)):
        replicas = -(-usage // target)
    return replicas, -(-usage // counted) if counted else 0


def _ratio(values: Mapping[str, int], requests: Mapping[str, int] | None, target: int) -> tuple[float, int | None, int]:
    """Return (usage divided by its target, percent of the requests or None, usage per pod). Raises NoMetrics."""
    total = sum(values.values())
    average = total // len(values)
    if requests is None:
        return average / target, None, average
    requested = sum(requests[name] for name in values if name in requests)
    if not requested:
        raise NoMetrics("no metrics returned matched known pods")
    utilization = total * 100 // requested
    return utilization / target, utilization, average


def _grouped(
    pods: list[Object], usage: Mapping[str, PodUsage], resource: str, delays: Delays, moment: datetime
) -> _Groups:
    groups = _Groups(0, [], [], [])
    for pod in pods:
        name = pod["metadata"]["name"]
        if is_deleting(pod) or pod_phase(pod) == "Failed":
            groups.ignored.append(name)
        elif pod_phase(pod) == "Pending":
            groups.unready.append(name)
        elif name not in usage:
            groups.missing.append(name)
        elif resource == "cpu" and _is_unready(pod, usage[name], delays, moment):
            groups.unready.append(name)
        else:
            groups.ready += 1
    return groups


def _is_unready(pod: Object, usage: PodUsage, delays: Delays, moment: datetime) -> bool:
    """Return True when the pod's CPU usage does not count yet: it is still starting, or was never ready."""
    condition = get_condition(pod, "Ready")
    started = parse_time(pod["status"].get("startTime"))
    if condition is None or started is None:
        return True
    since = parse_time(condition.get("lastTransitionTime")) or started
    unready = condition.get("status") == "False"
    if started + timedelta(seconds=delays.cpu_initialization) > moment:
        return unready or usage.moment < since + timedelta(seconds=usage.window)
    return unready and started + timedelta(seconds=delays.initial_readiness) > since


def pod_requests(pods: list[Object], resource: str, container: str = "") -> dict[str, int]:
    """Return the request of each pod, in thousandths of the unit.

    container: only this container's request; "" for the sum of all containers, restartable init containers included.
    Raises NoMetrics for a container without a request.
    """
    found = {}
    for pod in pods:
        spec, name = pod["spec"], pod["metadata"]["name"]
        lasting = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
        total = 0
        for one in [*(spec.get("containers") or ()), *lasting]:
            if container and one.get("name") != container:
                continue
            request = ((one.get("resources") or {}).get("requests") or {}).get(resource)
            if request is None:
                raise NoMetrics(f"missing request for {resource} in container {one.get('name', '')} of Pod {name}")
            total += int(parse_quantity(request) * 1000)
        found[name] = total
    return found
