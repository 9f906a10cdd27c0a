"""Applies LimitRanges to pods and claims: sets the defaults of containers, and checks their requests. Pure.

Source: `plugin/pkg/admission/limitranger/admission.go`, with its messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hatchway.cluster.amounts import Amount, Amounts, amounts_of
from hatchway.cluster.podresources import containers_of, pod_resources

__all__ = ["LIMIT_RANGER", "claim_problems", "pod_problems", "set_container_defaults"]

Json = dict[str, Any]

LIMIT_RANGER = "kubernetes.io/limit-ranger"


def set_container_defaults(limit_range: Json, pod: Json) -> None:
    """Set missing requests and limits of a pod's containers, and annotate the pod (`PodMutateLimitFunc`).

    pod: changed in place.
    """
    requests: Json = {}
    limits: Json = {}
    for item in _items(limit_range):
        if item.get("type") == "Container":
            requests |= item.get("defaultRequest") or {}
            limits |= item.get("default") or {}
    said = []
    spec = pod.get("spec") or {}
    for key, what in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(key) or ():
            said += _complete(container, requests, limits, what)
    if said:
        metadata = pod.setdefault("metadata", {})
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            LIMIT_RANGER: f"LimitRanger plugin set: {'; '.join(said)}",
        }


def _complete(container: Json, requests: Json, limits: Json, what: str) -> list[str]:
    resources = dict(container.get("resources") or {})
    said = []
    for key, given in (("request", requests), ("limit", limits)):
        present = resources.get(f"{key}s") or {}
        missing = {name: value for name, value in given.items() if name not in present}
        if missing:
            resources[f"{key}s"] = {**present, **missing}
            said.append(f"{', '.join(sorted(missing))} {key} for {what} {container.get('name', '')}")
    if said:
        container["resources"] = resources
    return said


def pod_problems(limit_range: Json, pod: Json) -> list[str]:
    """Return why a LimitRange forbids a pod; an empty list when it does not (`PodValidateLimitFunc`)."""
    problems = []
    spec = pod.get("spec") or {}
    for item in _items(limit_range):
        kind = item.get("type")
        if kind == "Container":
            for container in containers_of(spec):
                resources = container.get("resources") or {}
                requests, limits = amounts_of(resources.get("requests")), amounts_of(resources.get("limits"))
                problems += _problems(item, requests, limits)
        elif kind == "Pod":
            requests, limits = (
                pod_resources(spec, what, pod_level=_is_cpu_or_memory) for what in ("requests", "limits")
            )
            problems += _problems(item, requests, limits)
    return problems


def claim_problems(limit_range: Json, claim: Json, old: Json | None) -> list[str]:
    """Return why a LimitRange forbids the requests of a claim (`PersistentVolumeClaimValidateLimitFunc`).

    old: the claim before the change; None on create. Unchanged requests are not checked again.
    """
    requests, former = _claimed(claim), _claimed(old or {})
    problems = []
    for item in _items(limit_range):
        if item.get("type") != "PersistentVolumeClaim":
            continue
        for key in ("min", "max"):
            for name, bound in sorted(amounts_of(item.get(key)).items()):
                request = requests.get(name)
                if request is not None and name in former and former[name].nano == request.nano:
                    continue
                here = f"{key}imum {name} usage per PersistentVolumeClaim is {bound}"
                if request is None:
                    problems.append(f"{here}.  No request is specified")
                elif _is_beyond(key, request, bound):
                    problems.append(f"{here}, but request is {request}")
    return problems


def _claimed(claim: Json) -> Amounts:
    return amounts_of((((claim.get("spec") or {}).get("resources")) or {}).get("requests"))


def _items(limit_range: Json) -> Iterable[Json]:
    return (limit_range.get("spec") or {}).get("limits") or ()


def _is_cpu_or_memory(name: str) -> bool:
    return name in ("cpu", "memory")


def _is_beyond(key: str, amount: Amount, bound: Amount) -> bool:
    return amount.nano < bound.nano if key == "min" else amount.nano > bound.nano


def _problems(item: Json, requests: Amounts, limits: Amounts) -> list[str]:
    """Return the errors in the requests and limits of a container or a pod."""
    kind, problems = item["type"], []
    # A minimum requires that a request is set, a maximum requires that a limit is set.
    for key, needed in (("min", "request"), ("max", "limit")):
        given = {"request": requests, "limit": limits}
        for name, bound in sorted(amounts_of(item.get(key)).items()):
            here = f"{key}imum {name} usage per {kind} is {bound}"
            if name not in given[needed]:
                problems.append(f"{here}.  No {needed} is specified")
                continue
            for what in (needed, "limit" if needed == "request" else "request"):
                amount = given[what].get(name)
                if amount is not None and _is_beyond(key, amount, bound):
                    problems.append(f"{here}, but {what} is {amount}")
                    break
    for name, bound in sorted(amounts_of(item.get("maxLimitRequestRatio")).items()):
        problems += _ratio_problems(kind, name, bound, requests.get(name), limits.get(name))
    return problems


def _ratio_problems(kind: str, name: str, bound: Amount, request: Amount | None, limit: Amount | None) -> list[str]:
    here = f"{name} max limit to request ratio per {kind} is {bound}, but"
    if request is None or not request.nano:
        return [f"{here} no request is specified or request is 0"]
    if limit is None or not limit.nano:
        return [f"{here} no limit is specified or limit is 0"]
    if limit.nano * 10**9 > bound.nano * request.nano:
        return [f"{here} provided ratio is {limit.nano / request.nano:f}"]
    return []
