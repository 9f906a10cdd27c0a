"""Small admission plugins for new pods: Priority, DefaultTolerationSeconds, RuntimeClass.

From `plugin/pkg/admission/{priority,defaulttolerationseconds}` and `runtimeclass`.
"""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import keep
from hatchway.errors import forbidden
from hatchway.kube.wellknown import NOT_READY, UNREACHABLE

__all__ = ["DefaultTolerationSeconds", "PriorityAdmission", "RuntimeClassAdmission"]

_PRIORITY_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class PriorityAdmission(AdmissionPlugin):
    """Sets the priority of a pod's class. Only the classes exist that every cluster has."""

    name = "Priority"

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new and changed pods."""
        return operation in ("CREATE", "UPDATE") and resource == "pods" and not subresource

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Set the priority. Raises ApiError 403 for a class that does not exist, and for another priority."""
        assert attributes.object is not None
        obj, spec = attributes.object, attributes.object["spec"]
        if attributes.old_object is not None:
            for key in ("priority", "preemptionPolicy"):
                if spec.get(key) is None:
                    keep(spec, attributes.old_object["spec"], key)
            return
        name = obj["metadata"].get("name", "")
        wanted = spec.get("priorityClassName")
        priority = _PRIORITY_CLASSES.get(wanted, 0) if wanted else 0
        if wanted and wanted not in _PRIORITY_CLASSES:
            raise forbidden("pods", name, f"no PriorityClass with name {wanted} was found")
        for key, value, what in (
            ("priority", priority, "integer value of priority"),
            ("preemptionPolicy", "PreemptLowerPriority", "string value of PreemptionPolicy"),
        ):
            if spec.get(key) not in (None, value):
                why = f"the {what} ({spec[key]}) must not be provided in pod spec; priority admission controller "
                raise forbidden("pods", name, f"{why}computed {value} from the given PriorityClass name")
            spec[key] = value


class DefaultTolerationSeconds(AdmissionPlugin):
    """Lets a pod stay for five minutes on a node that no longer answers."""

    name = "DefaultTolerationSeconds"

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new and changed pods."""
        return operation in ("CREATE", "UPDATE") and resource == "pods" and not subresource

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Add the tolerations that the pod does not have."""
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


class RuntimeClassAdmission(AdmissionPlugin):
    """Refuses a runtimeClassName, because no RuntimeClass exists."""

    name = "RuntimeClass"

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new pods."""
        return (operation, resource, subresource) == ("CREATE", "pods", "")

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 for a pod with a runtime class or an overhead."""
        assert attributes.object is not None
        spec, name = attributes.object["spec"], attributes.object["metadata"].get("name", "")
        if spec.get("runtimeClassName") is not None:
            why = f"pod rejected: RuntimeClass {v.quote(spec['runtimeClassName'])} not found"
            raise forbidden("pods", name, why)
        if spec.get("overhead"):
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise forbidden("pods", name, why)
