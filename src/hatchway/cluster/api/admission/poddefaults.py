"""The admission plugin DefaultTolerationSeconds (`plugin/pkg/admission/defaulttolerationseconds`)."""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.kube.wellknown import NOT_READY, UNREACHABLE

__all__ = ["DefaultTolerationSeconds"]


class DefaultTolerationSeconds(AdmissionPlugin):
    """Lets pods stay for five minutes on a node that is not ready or not reachable."""

    name = "DefaultTolerationSeconds"

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new and changed pods."""
        return operation in ("CREATE", "UPDATE") and resource == "pods" and not subresource

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Add the tolerations that the pod lacks."""
        assert attributes.object is not None
        spec = attributes.object["spec"]
        tolerations = list(spec.get("tolerations") or ())
        for key in (NOT_READY, UNREACHABLE):
            if not any(
                one.get("key") in (key, None, "") and one.get("effect") in ("NoExecute", None, "")
                for one in tolerations
            ):
                tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        spec["tolerations"] = tolerations
