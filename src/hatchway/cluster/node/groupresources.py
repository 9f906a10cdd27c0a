"""Computes the limits of pods and containers for control groups. Pure.

From the kubelet: `cm/helpers_linux.go` (`MilliCPUToShares`, `MilliCPUToQuota`, `ResourceConfigForPod`) and
`kuberuntime_container_linux.go` (`calculateLinuxResources`).
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.amounts import ZERO, Amounts, amounts_of
from hatchway.cluster.podresources import pod_resources
from hatchway.cluster.runtime import GroupLimits, QosClass
from hatchway.kube.api import Object

__all__ = ["container_resources", "pod_group_resources", "qos_class"]

_LEAST_SHARES, _MOST_SHARES = 2, 262144
_PERIOD, _LEAST_QUOTA = 100_000, 1_000
_MILLI, _WHOLE = 10**6, 10**9


def qos_class(pod: Object) -> QosClass:
    """Return the QoS class in a pod's status."""
    found = (pod.get("status") or {}).get("qosClass")
    return found if found in ("Guaranteed", "Burstable") else "BestEffort"


def container_resources(container: Object) -> GroupLimits:
    """Return a container's limits. container: its spec with the resources that the node has granted."""
    resources: dict[str, Any] = container.get("resources") or {}
    requests, limits = amounts_of(resources.get("requests")), amounts_of(resources.get("limits"))
    # Without a request, the limit counts as the request.
    asked = requests if requests.get("cpu", ZERO).nano or not limits.get("cpu", ZERO).nano else limits
    return GroupLimits(_shares(asked), _quota(limits), _memory(limits))


def pod_group_resources(pod: Object) -> GroupLimits:
    """Return a pod's own limits. pod: the object with the resources that the node has granted.

    The pod has a limit only if each of its containers has a limit, or if `spec.resources` sets it.
    """
    spec = pod["spec"]
    if qos_class(pod) == "BestEffort":
        return GroupLimits()
    requests = pod_resources(spec, "requests", with_overhead=True)
    limits = pod_resources(spec, "limits", with_overhead=True)
    whole = amounts_of((spec.get("resources") or {}).get("limits"))
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    own = [amounts_of((one.get("resources") or {}).get("limits")) for one in containers]

    def declared(name: str) -> bool:
        return bool(whole.get(name, ZERO).nano) or all(one.get(name, ZERO).nano for one in own)

    return GroupLimits(
        _shares(requests),
        _quota(limits) if declared("cpu") else None,
        _memory(limits) if declared("memory") else None,
    )


def _shares(amounts: Amounts) -> int:
    milli = -(-amounts.get("cpu", ZERO).nano // _MILLI)
    return min(max(milli * 1024 // 1000, _LEAST_SHARES), _MOST_SHARES)


def _quota(amounts: Amounts) -> int | None:
    milli = -(-amounts.get("cpu", ZERO).nano // _MILLI)
    return max(milli * _PERIOD // 1000, _LEAST_QUOTA) if milli > 0 else None


def _memory(amounts: Amounts) -> int | None:
    found = -(-amounts.get("memory", ZERO).nano // _WHOLE)
    return found if found > 0 else None
