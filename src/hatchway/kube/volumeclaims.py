"""Finds a pod's PersistentVolumeClaims: named in the pod, or made for generic ephemeral volumes. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from hatchway.kube.api import Object

__all__ = ["PodClaim", "by_claim", "claims_of", "is_claim_of_pod"]


class PodClaim(NamedTuple):
    """A claim that a pod uses. ephemeral: True when the claim is created for the pod and deleted with it."""

    volume: str
    name: str
    ephemeral: bool


def claims_of(pod: Object) -> Iterator[PodClaim]:
    """Yield the claims of a pod. An ephemeral volume's claim is named POD-VOLUME (`ephemeral.VolumeClaimName`)."""
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim") is not None:
            yield PodClaim(volume["name"], volume["persistentVolumeClaim"].get("claimName") or "", False)
        elif volume.get("ephemeral") is not None:
            yield PodClaim(volume["name"], f"{pod['metadata']['name']}-{volume['name']}", True)


def by_claim(pod: Object) -> Iterator[Hashable]:
    """Yield (namespace, name) of each claim of a pod, as keys for an index."""
    namespace = pod["metadata"].get("namespace", "")
    for claim in claims_of(pod):
        yield namespace, claim.name


def is_claim_of_pod(claim: Object, pod: Object) -> bool:
    """Return True when an ephemeral volume's claim was made for this very pod (`ephemeral.VolumeIsForPod`)."""
    owners = claim["metadata"].get("ownerReferences") or ()
    return any(one.get("controller") and one.get("uid") == pod["metadata"].get("uid") for one in owners)
