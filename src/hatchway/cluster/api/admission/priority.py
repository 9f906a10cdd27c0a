"""The admission plugin Priority: gives pods the priority of their PriorityClass (`plugin/pkg/admission/priority`)."""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.registry.strategies.base import keep
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import forbidden
from hatchway.kube.api import Object
from hatchway.kube.wellknown import PRIORITY_CLASSES, SYSTEM_PRIORITIES

__all__ = ["PriorityAdmission"]

_PREEMPT = "PreemptLowerPriority"


class PriorityAdmission(AdmissionPlugin):
    """Sets the priority of pods, and lets only one class be the default. store: has the classes."""

    name = "Priority"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new and changed pods and PriorityClasses."""
        return operation in ("CREATE", "UPDATE") and resource in ("pods", PRIORITY_CLASSES) and not subresource

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Set a pod's priority. Raises ApiError 403 if its class does not exist or contradicts the pod's priority."""
        if attributes.resource != "pods":
            return
        assert attributes.object is not None
        obj, spec = attributes.object, attributes.object["spec"]
        if attributes.old_object is not None:
            for key in ("priority", "preemptionPolicy"):
                if spec.get(key) is None:
                    keep(spec, attributes.old_object["spec"], key)
            return
        name = obj["metadata"].get("name", "")
        wanted = spec.get("priorityClassName")
        if wanted:
            found = self._store.latest(PRIORITY_CLASSES, "", wanted)
            if found is None and wanted in SYSTEM_PRIORITIES:
                # A new cluster does not have the system's classes yet.
                found = {"value": SYSTEM_PRIORITIES[wanted]}
            if found is None:
                raise forbidden("pods", name, f"no PriorityClass with name {wanted} was found")
        else:
            found = self._default()
            if found is not None:
                spec["priorityClassName"] = found["metadata"]["name"]
        for key, value, what in (
            ("priority", (found or {}).get("value", 0), "integer value of priority"),
            ("preemptionPolicy", (found or {}).get("preemptionPolicy") or _PREEMPT, "string value of PreemptionPolicy"),
        ):
            if spec.get(key) not in (None, value):
                why = f"the {what} ({spec[key]}) must not be provided in pod spec; priority admission controller "
                raise forbidden("pods", name, f"{why}computed {value} from the given PriorityClass name")
            spec[key] = value

    def validate(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 for a second default class."""
        obj = attributes.object
        if attributes.resource != PRIORITY_CLASSES or obj is None or not obj.get("globalDefault"):
            return
        found, name = self._default(), obj["metadata"].get("name", "")
        if found is not None and (attributes.operation == "CREATE" or found["metadata"]["name"] != name):
            why = f"PriorityClass {found['metadata']['name']} is already marked as default. Only one default can exist"
            raise forbidden("priorityclasses", name, why, "scheduling.k8s.io")

    def _default(self) -> Object | None:
        """Return the default class, or None. If there are several, return the class with the lowest priority."""
        classes = [one for one in self._store.list(PRIORITY_CLASSES) if one.get("globalDefault")]
        return min(classes, key=lambda one: int(one.get("value", 0)), default=None)
