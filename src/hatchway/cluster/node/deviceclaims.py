"""Explains why a pod with ResourceClaims does not start: nodes load no device drivers. Pure."""

from __future__ import annotations

from hatchway.kube.api import Object
from hatchway.kube.resourceclaims import device_claims_of

__all__ = ["why_not_prepared"]


def why_not_prepared(pod: Object) -> str:
    """Return why the devices of a pod cannot be prepared; "" when it needs none."""
    names = [one.name or one.reference for one in device_claims_of(pod) if one.is_needed]
    if not names:
        return ""
    namespace = pod["metadata"].get("namespace", "")
    claims = ", ".join(f"{namespace}/{name}" for name in names)
    return (
        f"Failed to prepare dynamic resources: ResourceClaim {claims}: no DRA driver is registered on this node; nodes "
        "of this cluster load none, so the pod's containers do not start"
    )
