"""Finds a pod's ResourceClaims: named in the pod, or made from templates (`resourceclaim/claim.go`). Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Final, NamedTuple

from hatchway.kube.api import Object

__all__ = [
    "DEVICE_CLAIMS",
    "DEVICE_CLASSES",
    "DEVICE_SLICES",
    "DEVICE_TEMPLATES",
    "PodDeviceClaim",
    "by_device_claim",
    "device_claims_of",
    "is_reserved_for",
    "ownership_problem",
]

DEVICE_CLASSES: Final = "deviceclasses.resource.k8s.io"
DEVICE_CLAIMS: Final = "resourceclaims.resource.k8s.io"
DEVICE_SLICES: Final = "resourceslices.resource.k8s.io"
DEVICE_TEMPLATES: Final = "resourceclaimtemplates.resource.k8s.io"


class PodDeviceClaim(NamedTuple):
    """A pod's reference to a claim.

    reference: the name of the reference in the pod.
    name: the name of the claim; "" when it does not exist yet, or when no claim is needed.
    template: the template from which the claim is made; "" for a claim that the pod names.
    is_needed: False when no claim is needed.
    """

    reference: str
    name: str
    template: str
    is_needed: bool = True


def device_claims_of(pod: Object) -> Iterator[PodDeviceClaim]:
    """Yield the claims of a pod."""
    known = {one.get("name"): one for one in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    for one in pod["spec"].get("resourceClaims") or ():
        name, template = one.get("resourceClaimName"), one.get("resourceClaimTemplateName") or ""
        if name is not None:
            yield PodDeviceClaim(one["name"], name, "")
            continue
        found = known.get(one["name"])
        made = (found or {}).get("resourceClaimName") or ""
        yield PodDeviceClaim(one["name"], made, template, found is None or bool(made))


def by_device_claim(pod: Object) -> Iterator[Hashable]:
    """Yield (namespace, name) of each claim of a pod: the keys of an index."""
    for one in device_claims_of(pod):
        if one.name:
            yield pod["metadata"].get("namespace", ""), one.name


def ownership_problem(claim: Object, pod: Object) -> str:
    """Return why a claim was not made for a pod (`IsForPod`); "" when the claim was made for the pod."""
    for owner in claim["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner.get("uid") == pod["metadata"].get("uid"):
            return ""
    (space, name), (_, pod_name) = (
        (one["metadata"].get("namespace", ""), one["metadata"].get("name", "")) for one in (claim, pod)
    )
    return f"ResourceClaim {space}/{name} was not created for pod {space}/{pod_name} (pod is not owner)"


def is_reserved_for(claim: Object, pod: Object) -> bool:
    """Return True when a pod may use a claim."""
    uid = pod["metadata"].get("uid")
    return any(one.get("uid") == uid for one in (claim.get("status") or {}).get("reservedFor") or ())
