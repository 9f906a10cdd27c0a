"""The admission plugin TaintNodesByCondition: keeps pods away from a new node until it is ready."""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.kube.wellknown import NOT_READY

__all__ = ["TaintNodesByCondition"]


class TaintNodesByCondition(AdmissionPlugin):
    """Taints new nodes as not ready (`plugin/pkg/admission/nodetaint`). The node controller removes the taint."""

    name = "TaintNodesByCondition"

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new nodes."""
        return (operation, resource, subresource) == ("CREATE", "nodes", "")

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Add the taint."""
        assert attributes.object is not None
        spec = attributes.object["spec"]
        taints = spec.get("taints") or []
        if not any(one.get("key") == NOT_READY and one.get("effect") == "NoSchedule" for one in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]
