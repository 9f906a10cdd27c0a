"""The admission plugins of volumes and claims (`plugin/pkg/admission/storage`).

DefaultStorageClass gives a claim the default class. StorageObjectInUseProtection gives claims, volumes and
VolumeAttributesClasses a finalizer. PersistentVolumeClaimResize refuses to enlarge a claim unless its class allows
enlargement.
"""

from __future__ import annotations

from fractions import Fraction

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.quantity import parse_quantity
from hatchway.errors import forbidden
from hatchway.kube.api import Object

__all__ = ["ClaimResizeAdmission", "DefaultStorageClass", "StorageProtection"]

_CLAIMS, _CLASSES = "persistentvolumeclaims", "storageclasses.storage.k8s.io"
_FINALIZERS = {
    _CLAIMS: "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_NO_RESIZE = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
)


class DefaultStorageClass(AdmissionPlugin):
    """Sets the class of a new claim that names no class. store: has the classes."""

    name = "DefaultStorageClass"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new claims."""
        return (operation, resource, subresource) == ("CREATE", _CLAIMS, "")

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Set the default class, if there is one."""
        assert attributes.object is not None
        spec = attributes.object.get("spec")
        annotations = attributes.object["metadata"].get("annotations") or {}
        if not isinstance(spec, dict) or spec.get("storageClassName") is not None or _CLASS_ANNOTATION in annotations:
            return
        # If there are several default classes, the newest is used; if several are equally new, the first by name.
        found = sorted(filter(_is_default, self._store.list(_CLASSES)), key=lambda one: str(one["metadata"]["name"]))
        if found:
            newest = max(found, key=lambda one: str(one["metadata"].get("creationTimestamp", "")))
            spec["storageClassName"] = newest["metadata"]["name"]


class StorageProtection(AdmissionPlugin):
    """Gives new claims, volumes and VolumeAttributesClasses the finalizers that protect them while they are in use."""

    name = "StorageObjectInUseProtection"

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new objects of these types."""
        return operation == "CREATE" and resource in _FINALIZERS and not subresource

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Add the finalizer."""
        assert attributes.object is not None
        metadata, finalizer = attributes.object["metadata"], _FINALIZERS[attributes.resource]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers:
            metadata["finalizers"] = [*finalizers, finalizer]


class ClaimResizeAdmission(AdmissionPlugin):
    """Refuses to make a bound claim larger unless its class allows it. store: has the classes."""

    name = "PersistentVolumeClaimResize"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for changes of claims."""
        return (operation, resource, subresource) == ("UPDATE", _CLAIMS, "")

    def validate(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 when the claim cannot be resized."""
        new, old = attributes.object, attributes.old_object
        assert new is not None and old is not None
        if (old.get("status") or {}).get("phase") != "Bound" or _size(new) <= _size(old):
            return
        name = old["spec"].get("storageClassName")
        found = self._store.latest(_CLASSES, "", name) if name else None
        if found is None or not found.get("allowVolumeExpansion"):
            raise forbidden(_CLAIMS, attributes.object_name, _NO_RESIZE)


def _is_default(storage_class: Object) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(key) == "true" for key in _DEFAULT)


def _size(claim: Object) -> Fraction:
    found = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return parse_quantity(found) if found is not None else Fraction(0)
