"""Nodes (core/v1): defaults and validation."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, field, readers
from hatchway.errors import Cause
from hatchway.kube.api import Object


class NodeStrategy(Strategy):
    """Nodes (`pkg/registry/core/node/strategy.go`)."""

    selectable = readers(
        {
            "spec.unschedulable": lambda obj: "true" if (obj.get("spec") or {}).get("unschedulable") else "false",
            "spec.podCIDR": field("spec", "podCIDR"),
        }
    )

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set podCIDRs from podCIDR, because old clients write only podCIDR."""
        spec = obj["spec"]
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]

    def has_status(self, obj: Object) -> bool:
        """Return False: a new node keeps its status, because kubelets register nodes together with a status."""
        return False

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Add an empty status if the new node has no status."""
        obj.setdefault("status", {})

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in taints and pod address ranges."""
        causes = []
        seen = set()
        for index, taint in enumerate((obj.get("spec") or {}).get("taints") or ()):
            at = f"spec.taints[{index}]"
            causes += v.each(f"{at}.key", taint.get("key", ""), v.qualified_name(taint.get("key", "")))
            causes += v.each(f"{at}.value", taint.get("value", ""), v.label_value(taint.get("value", "")))
            effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
            if taint.get("effect", "") not in effects:
                causes.append(v.not_supported(f"{at}.effect", taint.get("effect", ""), effects))
            identity = (taint.get("key"), taint.get("effect"))
            if identity in seen:
                causes.append(v.duplicate(at, taint))
            seen.add(identity)
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: podCIDRs and providerID never change once they are set."""
        causes = self.validate(obj)
        new_spec, old_spec = obj.get("spec") or {}, old.get("spec") or {}
        if old_spec.get("podCIDRs") and new_spec.get("podCIDRs") != old_spec.get("podCIDRs"):
            causes.append(v.forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
        if old_spec.get("providerID") and new_spec.get("providerID") != old_spec.get("providerID"):
            causes.append(
                v.forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')
            )
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors about duplicate addresses."""
        causes = []
        seen = set()
        for index, address in enumerate((obj.get("status") or {}).get("addresses") or ()):
            identity = (address.get("type"), address.get("address"))
            if identity in seen:
                causes.append(v.duplicate(f"status.addresses[{index}]", address))
            seen.add(identity)
        return causes
