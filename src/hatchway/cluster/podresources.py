"""The requests and limits of a pod as a whole (component-helpers' `resource/helpers.go`). Pure.

The amounts of a pod are the sum for its containers, or the peak for its init containers if that is more. A sidecar (an
init container that is always restarted) counts from its start on. Amounts for the pod as a whole (`spec.resources`)
replace these sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from hatchway.cluster.amounts import Amounts, add, amounts_of, greatest, mask

__all__ = ["containers_of", "is_pod_level", "is_resize_infeasible", "pod_resources", "reserved_spec"]

Spec = dict[str, Any]


def is_pod_level(name: str) -> bool:
    """Return True for a resource that can be set for a pod as a whole."""
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def containers_of(spec: Spec) -> list[Spec]:
    """Return the containers and then the init containers of a pod."""
    return [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]


def is_resize_infeasible(pod: Spec) -> bool:
    """Return True when the node has reported that it cannot resize the pod (`IsPodResizeInfeasible`)."""
    return any(
        one.get("type") == "PodResizePending" and one.get("reason") == "Infeasible"
        for one in (pod.get("status") or {}).get("conditions") or ()
    )


def reserved_spec(pod: Spec) -> Spec:
    """Return the spec of a pod with the requests that are reserved for it on its node.

    While a pod is being resized, this is the largest of three requests: the request in its spec, the request that its
    node has granted, and the request that is in effect (`determineEffectiveRequests`).

    Raises ValueError for text that is not a quantity.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    known = {
        one.get("name"): one
        for key in ("containerStatuses", "initContainerStatuses")
        for one in status.get(key) or ()
        if one.get("resources") is not None
    }
    out = spec
    for key in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(key) or ()):
            found = known.get(container.get("name"))
            if found is None or (key == "initContainers" and container.get("restartPolicy") != "Always"):
                continue
            asked = (container.get("resources") or {}).get("requests") or {}
            present = found["resources"].get("requests") or {}, found.get("allocatedResources") or {}
            if all(one == asked for one in present):
                continue
            lists = [*present] if is_resize_infeasible(pod) else [asked, *present]
            largest: Amounts = {}
            for one in lists:
                largest = greatest(largest, amounts_of(one))
            if out is spec:
                out = {**spec, **{kind: list(spec[kind]) for kind in ("containers", "initContainers") if kind in spec}}
            requests = {name: str(amount) for name, amount in largest.items()}
            out[key][index] = {**container, "resources": {**(container.get("resources") or {}), "requests": requests}}
    return out


def pod_resources(
    spec: Spec,
    kind: Literal["requests", "limits"],
    *,
    own: Callable[[Spec], Amounts] | None = None,
    with_overhead: bool = False,
    pod_level: Callable[[str], bool] = is_pod_level,
) -> Amounts:
    """Return the requests or the limits of a pod.

    spec: the pod's spec.
    own: returns the amounts of one container; None to use its `resources`.
    with_overhead: True to add the overhead of the pod's runtime class. A pod without a limit gets no limit by this.
    pod_level: returns True for a resource whose sum is replaced by the amount in the pod's own `resources`.

    Raises ValueError for text that is not a quantity.
    """

    def of(container: Spec) -> Amounts:
        return own(container) if own is not None else amounts_of((container.get("resources") or {}).get(kind))

    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = add(total, of(container))
    peak: Amounts = {}
    sidecars: Amounts = {}
    for container in spec.get("initContainers") or ():
        needed = of(container)
        if container.get("restartPolicy") == "Always":
            total, sidecars = add(total, needed), add(sidecars, needed)
            needed = sidecars
        else:
            needed = add(needed, sidecars)
        peak = greatest(peak, needed)
    total = greatest(total, peak)
    whole = amounts_of((spec.get("resources") or {}).get(kind))
    total |= {name: amount for name, amount in whole.items() if pod_level(name)}
    if with_overhead and spec.get("overhead"):
        overhead = amounts_of(spec["overhead"])
        # A pod without a limit must not get one.
        total = add(total, overhead if kind == "requests" else mask(overhead, total))
    return total
