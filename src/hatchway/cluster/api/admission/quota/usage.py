"""Computes the amounts that an object uses, and finds the names in quotas that count objects of a type. Pure.

Source: `pkg/quota/v1/evaluator/core` (pods, services, claims) and apiserver's `pkg/quota/v1/generic` (all other types).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.amounts import ONE, ZERO, Amount, Amounts, amounts_of
from hatchway.cluster.podresources import pod_resources, reserved_spec

__all__ = ["COUNT", "claim_class", "is_charged_on_update", "resource_of", "tracked", "usage"]

Json = dict[str, Any]

COUNT = "count/"
_PODS, _SERVICES, _CLAIMS = "pods", "services", "persistentvolumeclaims"
# Types for which a quota can use the plain name instead of `count/NAME`.
_PLAIN = frozenset(("configmaps", "replicationcontrollers", "resourcequotas", "secrets"))
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES = frozenset(
    (_PODS, *_COMPUTE, *(f"requests.{one}" for one in _COMPUTE), *(f"limits.{one}" for one in _COMPUTE))
)
_SERVICE_NAMES = frozenset((_SERVICES, "services.nodeports", "services.loadbalancers"))
_CLAIM_NAMES = (_CLAIMS, "requests.storage")
_OF_CLASS = ".storageclass.storage.k8s.io/"
_HUGE_PAGES, _REQUESTS = "hugepages-", "requests."
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def resource_of(name: str) -> str:
    """Return the type that a name in a quota counts (`pods`, `deployments.apps`); "" for an unknown name."""
    if name.startswith(COUNT):
        return name.removeprefix(COUNT)
    if name in _POD_NAMES or name.startswith((_HUGE_PAGES, _REQUESTS + _HUGE_PAGES)):
        return _PODS
    if name in _SERVICE_NAMES:
        return _SERVICES
    if name in _CLAIM_NAMES or name.endswith(tuple(_OF_CLASS + one for one in _CLAIM_NAMES)):
        return _CLAIMS
    if name in _PLAIN:
        return name
    # Resources with a domain, such as GPUs.
    return _PODS if name.startswith(_REQUESTS) and not _is_native(name) else ""


def tracked(resource: str, names: Iterable[str]) -> list[str]:
    """Return the names in a quota that count objects of a type (`MatchingResources`)."""
    return [name for name in names if resource_of(name) == resource]


def is_charged_on_update(resource: str) -> bool:
    """Return True for a type whose updates are compared with quotas, in addition to new objects."""
    return resource in (_SERVICES, _CLAIMS)


def usage(resource: str, obj: Json, now: float) -> Amounts:
    """Return the amounts that an object uses. resource: the object's type. now: POSIX seconds. Raises ValueError."""
    found = {COUNT + resource: ONE}
    if resource == _PODS:
        found |= _pod_usage(obj, now)
    elif resource == _SERVICES:
        found |= _service_usage(obj)
    elif resource == _CLAIMS:
        found |= _claim_usage(obj)
    elif resource in _PLAIN:
        found[resource] = ONE
    return found


def _pod_usage(pod: Json, now: float) -> Amounts:
    """Return the amounts that a pod uses: none when it has ended (`PodUsageFunc`)."""
    if not _may_run(pod, now):
        return {}
    requests = pod_resources(reserved_spec(pod), "requests", with_overhead=True)
    limits = pod_resources(pod.get("spec") or {}, "limits", with_overhead=True)
    return compute_usage(requests, limits)


def compute_usage(requests: Amounts, limits: Amounts) -> Amounts:
    """Return a pod's requests and limits, by the names that quotas have for them (`podComputeUsageHelper`)."""
    found: Amounts = {_PODS: ONE}
    for name in _COMPUTE:
        if name in requests:
            found[name] = found[_REQUESTS + name] = requests[name]
        if name in limits:
            found[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith(_HUGE_PAGES):
            found[name] = found[_REQUESTS + name] = amount
        elif not _is_native(name):
            found[_REQUESTS + name] = amount
    return found


def _may_run(pod: Json, now: float) -> bool:
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return False
    metadata = pod.get("metadata") or {}
    grace = metadata.get("deletionGracePeriodSeconds")
    if not metadata.get("deletionTimestamp") or grace is None:
        return True
    # If its node is lost, a deleted pod may remain stored. Such a pod does not count after its grace period.
    return bool(now <= _seconds(metadata["deletionTimestamp"]) + grace)


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def _service_usage(service: Json) -> Amounts:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or []
    node_ports = 0
    if spec.get("type") == "NodePort":
        node_ports = len(ports)
    elif spec.get("type") == "LoadBalancer":
        # Each port will get a node port, so it counts before the allocation. A service can disable the allocation.
        wanted = spec.get("allocateLoadBalancerNodePorts") is not False
        node_ports = len(ports) if wanted else sum(1 for port in ports if port.get("nodePort"))
    return {
        _SERVICES: ONE,
        "services.nodeports": Amount.count(node_ports),
        "services.loadbalancers": ONE if spec.get("type") == "LoadBalancer" else ZERO,
    }


def claim_class(claim: Json) -> str:
    """Return the storage class of a claim, "" for none (`GetPersistentVolumeClaimClass`)."""
    annotations = (claim.get("metadata") or {}).get("annotations") or {}
    return annotations.get(_CLASS_ANNOTATION) or (claim.get("spec") or {}).get("storageClassName") or ""


def _claim_usage(claim: Json) -> Amounts:
    found: Amounts = {_CLAIMS: ONE}
    requests = amounts_of(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    if "storage" in requests:
        storage = requests["storage"]
        # While a claim is being expanded, its allocated storage may be larger than its present request.
        allocated = amounts_of((claim.get("status") or {}).get("allocatedResources")).get("storage")
        if allocated is not None and allocated.nano > storage.nano:
            storage = allocated
        found["requests.storage"] = storage.rounded_up()
    kind = claim_class(claim)
    return found | {kind + _OF_CLASS + name: amount for name, amount in found.items()} if kind else found
