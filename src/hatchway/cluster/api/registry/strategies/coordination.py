"""Leases (coordination.k8s.io/v1): heartbeats of nodes, locks of leaders."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.errors import Cause
from hatchway.kube.api import Object


class LeaseStrategy(Strategy):
    """Leases (`pkg/registry/coordination/lease`)."""

    # A client that updates a lock must send the resourceVersion, so that it cannot overwrite another client's change.
    unconditional_update = False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the lease's duration and count of transitions."""
        spec = obj.get("spec") or {}
        causes = []
        duration = spec.get("leaseDurationSeconds")
        if duration is not None and duration <= 0:
            causes.append(v.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
        transitions = spec.get("leaseTransitions")
        if transitions is not None and transitions < 0:
            causes.append(v.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
        return causes
