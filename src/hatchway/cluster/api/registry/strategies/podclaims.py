"""References of pods and containers to ResourceClaims: validation (`validatePodResourceClaims`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

__all__ = ["validate_claim_statuses", "validate_container_claims", "validate_pod_claims"]

Spec = dict[str, Any]

_NAMES = ("resourceClaimName", "resourceClaimTemplateName")
# The maximum number of claims of a pod, and of a container. Kubernetes has no such limit.
_MOST = 128


def validate_pod_claims(claims: list[Spec], at: str) -> list[Cause]:
    """Return the errors in the claims of a pod."""
    if len(claims) > _MOST:
        return [v.too_many(at, len(claims), _MOST)]
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        here, name = f"{at}[{index}]", claim.get("name") or ""
        if not name:
            causes.append(v.required(f"{here}.name"))
        elif name in seen:
            causes.append(v.duplicate(f"{here}.name", name))
        else:
            causes += v.each(f"{here}.name", name, v.dns1123_label(name))
        seen.add(name)
        given = [key for key in _NAMES if claim.get(key) is not None]
        if len(given) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            causes.append(v.invalid(here, claim, text))
        elif not given:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            causes.append(v.invalid(here, claim, text))
        for key in given:
            causes += v.each(f"{here}.{key}", claim[key], v.dns1123_subdomain(claim[key]))
    return causes


def validate_claim_statuses(statuses: list[Spec], of_pod: list[Spec], at: str) -> list[Cause]:
    """Return the errors in a pod's status.resourceClaimStatuses. of_pod: the claims in the pod's spec."""
    known = {one.get("name") or "" for one in of_pod}
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, status in enumerate(statuses):
        here, name, claim = f"{at}[{index}]", status.get("name") or "", status.get("resourceClaimName")
        if name not in known:
            causes.append(v.invalid(f"{here}.name", name, "must match the name of an entry in `spec.resourceClaims`"))
        if name in seen:
            causes.append(v.duplicate(f"{here}.name", name))
        seen.add(name)
        if claim is not None:
            causes += v.each(f"{here}.resourceClaimName", claim, v.dns1123_subdomain(claim))
    return causes


def validate_container_claims(claims: list[Spec], of_pod: list[Spec], at: str) -> list[Cause]:
    """Return the errors in the claims that a container uses. of_pod: the claims of its pod."""
    if len(claims) > _MOST:
        return [v.too_many(at, len(claims), _MOST)]
    known = sorted({one.get("name") or "" for one in of_pod})
    causes: list[Cause] = []
    whole: set[str] = set()
    parts: set[tuple[str, str]] = set()
    for index, claim in enumerate(claims):
        here, name, request = f"{at}[{index}]", claim.get("name") or "", claim.get("request") or ""
        if not name:
            causes.append(v.required(here))
            continue
        if request:
            causes += v.each(f"{here}.request", request, v.dns1123_label(request))
        if name in whole or (not request and any(one == name for one, _ in parts)):
            causes.append(v.duplicate(here, name))
        elif request and (name, request) in parts:
            causes.append(v.duplicate(here, f"{name}/{request}"))
        if request:
            parts.add((name, request))
        else:
            whole.add(name)
        if name not in known:
            detail = f": {', '.join(known)}" if known else " which is empty"
            text = f"Not found: {v.quote(name)}: must be one of the names in pod.spec.resourceClaims{detail}"
            causes.append(Cause("FieldValueNotFound", text, here))
    return causes
