"""The admission plugin RuntimeClass: adds fields of the class to a pod (`plugin/pkg/admission/runtimeclass`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import ApiError, forbidden
from hatchway.kube.api import Object
from hatchway.kube.wellknown import RUNTIME_CLASSES

__all__ = ["RuntimeClassAdmission", "merged_tolerations"]

# With more tolerations than this, only duplicates are left out. Comparing every pair would take too long.
_MANY_TOLERATIONS = 200


class RuntimeClassAdmission(AdmissionPlugin):
    """Adds the overhead, the node selector and the tolerations of a new pod's class. store: has the classes."""

    name = "RuntimeClass"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new pods."""
        return (operation, resource, subresource) == ("CREATE", "pods", "")

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Add the class's fields to the pod. Raises ApiError 403 if the class does not exist or contradicts the pod."""
        assert attributes.object is not None
        spec = attributes.object["spec"]
        found = self._class_of(attributes.object)
        if found is None:
            return
        overhead = (found.get("overhead") or {}).get("podFixed")
        if found.get("overhead") is not None:
            if spec.get("overhead") is not None and not _same(spec["overhead"], overhead):
                raise _mismatch(attributes.object)
            if overhead:
                spec["overhead"] = dict(overhead)
        scheduling = found.get("scheduling")
        if scheduling is None:
            return
        selector = dict(spec.get("nodeSelector") or {})
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            if selector.setdefault(key, value) != value:
                why = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                raise _refused(attributes.object, f"{why}pod.spec.nodeSelector[{key}] = {selector[key]}")
        if selector:
            spec["nodeSelector"] = selector
        tolerations = merged_tolerations([*(spec.get("tolerations") or ()), *(scheduling.get("tolerations") or ())])
        if tolerations:
            spec["tolerations"] = tolerations

    def validate(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 if the pod's overhead differs from the overhead of its class."""
        assert attributes.object is not None
        given = attributes.object["spec"].get("overhead")
        found = self._class_of(attributes.object)
        if found is not None and found.get("overhead") is not None:
            if not _same(given, found["overhead"].get("podFixed")):
                raise _mismatch(attributes.object)
        elif given is not None:
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise _refused(attributes.object, why)

    def _class_of(self, obj: Object) -> Object | None:
        name = obj["spec"].get("runtimeClassName")
        if name is None:
            return None
        found = self._store.latest(RUNTIME_CLASSES, "", name)
        if found is None:
            raise _refused(obj, f"pod rejected: RuntimeClass {v.quote(name)} not found")
        return found


def _refused(obj: Object, why: str) -> ApiError:
    return forbidden("pods", obj["metadata"].get("name", ""), why)


def _mismatch(obj: Object) -> ApiError:
    return _refused(obj, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")


def _same(given: dict[str, Any] | None, wanted: dict[str, Any] | None) -> bool:
    """Return True when both have the same amounts, even in different spellings."""
    one, other = given or {}, wanted or {}
    try:
        return one.keys() == other.keys() and all(quantity_value(one[key]) == quantity_value(other[key]) for key in one)
    except ValueError:
        return False


def merged_tolerations(tolerations: list[Object]) -> list[Object]:
    """Return the tolerations that no other toleration includes (`pkg/util/tolerations`)."""
    if len(tolerations) > _MANY_TOLERATIONS:
        return list({_identity(one): one for one in reversed(tolerations)}.values())[::-1]
    merged: list[Object] = []
    for index, one in enumerate(tolerations):
        later = (other for other in tolerations[index + 1 :] if _identity(other) != _identity(one))
        if not any(_includes(other, one) for other in merged) and not any(_includes(other, one) for other in later):
            merged.append(one)
    return merged


def _identity(toleration: Object) -> tuple[Any, ...]:
    texts = [toleration.get(key) or "" for key in ("key", "operator", "value", "effect")]
    return (*texts, toleration.get("tolerationSeconds"))


def _includes(other: Object, one: Object) -> bool:
    """Return True when `other` tolerates everything that `one` tolerates (`isSuperset`)."""
    if _identity(other) == _identity(one):
        return True
    operator = other.get("operator") or "Equal"
    if (one.get("key") or "") != (other.get("key") or "") and (other.get("key") or operator != "Exists"):
        return False
    if (one.get("effect") or "") != (other.get("effect") or "") and other.get("effect"):
        return False
    if other.get("effect") == "NoExecute" and other.get("tolerationSeconds") is not None:
        seconds = one.get("tolerationSeconds")
        if seconds is None or seconds > other["tolerationSeconds"]:
            return False
    if operator == "Equal":
        return one.get("operator") == "Equal" and (one.get("value") or "") == (other.get("value") or "")
    return bool(operator == "Exists")
