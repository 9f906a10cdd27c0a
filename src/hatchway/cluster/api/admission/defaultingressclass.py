"""The admission plugin DefaultIngressClass (`plugin/pkg/admission/network/defaultingressclass`)."""

from __future__ import annotations

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object

__all__ = ["DefaultIngressClass"]

_CLASSES = "ingressclasses.networking.k8s.io"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"


class DefaultIngressClass(AdmissionPlugin):
    """Sets the class of a new Ingress that names no class. store: has the classes."""

    name = "DefaultIngressClass"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new Ingresses."""
        return (operation, resource, subresource) == ("CREATE", "ingresses.networking.k8s.io", "")

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Set the default class, if there is one."""
        assert attributes.object is not None
        spec = attributes.object.get("spec")
        annotations = attributes.object["metadata"].get("annotations") or {}
        if not isinstance(spec, dict) or spec.get("ingressClassName") is not None or _CLASS_ANNOTATION in annotations:
            return
        # If there are several default classes, the newest is used; if several are equally new, the first by name.
        classes = sorted(
            (one for one in self._store.list(_CLASSES) if _is_default(one)),
            key=lambda one: str(one["metadata"]["name"]),
        )
        if classes:
            newest = max(classes, key=lambda one: str(one["metadata"].get("creationTimestamp", "")))
            spec["ingressClassName"] = newest["metadata"]["name"]


def _is_default(one: Object) -> bool:
    return bool((one["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true")
