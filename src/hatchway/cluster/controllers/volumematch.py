"""Decides which PersistentVolumes match a claim (`component-helpers/storage/volume/pv_helpers.go`). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from fractions import Fraction

from hatchway.cluster.controllers.objectfields import annotations_of, is_deleting, labels_of, uid_of
from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object
from hatchway.kube.nodeselectors import volume_fits_node
from hatchway.kube.selectors import selector_matches

CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"
ATTRIBUTES_CLASSES = "volumeattributesclasses.storage.k8s.io"

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: Object) -> str:
    """Return the name of the class of a claim or a volume; "" for none."""
    annotation = annotations_of(obj).get(_CLASS_ANNOTATION)
    return str(annotation if annotation is not None else obj["spec"].get("storageClassName") or "")


def attributes_class_of(obj: Object) -> str:
    """Return the name of the VolumeAttributesClass that a claim wants or a volume has; "" for none."""
    return str(obj["spec"].get("volumeAttributesClassName") or "")


def phase_of(obj: Object) -> str:
    """Return the phase of a claim or a volume."""
    return str((obj.get("status") or {}).get("phase") or "")


def waits_for_consumer(storage_class: Object | None) -> bool:
    """Return True when claims of the class are bound only when a pod uses them."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def can_provision(storage_class: Object | None) -> bool:
    """Return True when volumes of the class are provisioned on demand."""
    return storage_class is not None and storage_class.get("provisioner") not in (None, "", NO_PROVISIONER)


def requested(claim: Object) -> Fraction:
    """Return the bytes that a claim requests."""
    found = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", 0)
    return parse_quantity(found)


def capacity(volume: Object) -> Fraction:
    """Return the bytes that a volume holds."""
    return parse_quantity((volume["spec"].get("capacity") or {}).get("storage", 0))


def is_fully_bound(claim: Object) -> bool:
    """Return True when the binding of the claim is complete."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Return True when the volume is reserved for the claim (`IsVolumeBoundToClaim`)."""
    reference = volume["spec"].get("claimRef")
    if reference is None:
        return False
    metadata = claim["metadata"]
    if (reference.get("namespace"), reference.get("name")) != (metadata["namespace"], metadata["name"]):
        return False
    return not reference.get("uid") or reference["uid"] == uid_of(claim)


def mismatch(volume: Object, claim: Object) -> str:
    """Return why a volume does not match the claim that names it; "" when it matches."""
    if capacity(volume) < requested(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if attributes_class_of(volume) != attributes_class_of(claim):
        return "volumeAttributesClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    if not _has_modes(volume, claim):
        return "incompatible accessMode"
    return ""


def _mode(obj: Object) -> str:
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def _has_modes(volume: Object, claim: Object) -> bool:
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())


def find_match(
    claim: Object,
    volumes: Iterable[Object],
    *,
    node: Object | None = None,
    excluded: Set[str] = frozenset(),
    delayed: bool = False,
) -> Object | None:
    """Return the volume for a claim: the volume reserved for it, else the smallest that matches; None without a match.

    node: the node on which the volume is to be used, for the scheduler; None when the node does not matter.
    excluded: the names of volumes that other claims of the same pod get.
    delayed: True to return only a reserved volume, because the scheduler will choose among the other volumes.
    """
    size, name, mode, attributes = requested(claim), class_of(claim), _mode(claim), attributes_class_of(claim)
    found: list[Object] = []
    for volume in volumes:
        if volume["metadata"]["name"] in excluded or is_deleting(volume) or _mode(volume) != mode:
            continue
        if attributes_class_of(volume) != attributes:
            continue
        reserved = is_bound_to(volume, claim)
        if (volume["spec"].get("claimRef") is not None and not reserved) or capacity(volume) < size:
            continue
        fits = node is None or volume_fits_node(volume, node)
        if reserved:
            return volume if fits else None
        if delayed or not fits or phase_of(volume) != "Available" or class_of(volume) != name:
            continue
        selector = claim["spec"].get("selector")
        if selector is not None and not selector_matches(selector, labels_of(volume)):
            continue
        if _has_modes(volume, claim):
            found.append(volume)
    return min(found, key=_preference, default=None)


def _preference(volume: Object) -> tuple[int, Fraction, str]:
    """Return a sort key: few access modes first, then small volumes (`allPossibleMatchingAccessModes`)."""
    return len(volume["spec"].get("accessModes") or ()), capacity(volume), volume["metadata"]["name"]


def reference_to(claim: Object) -> Object:
    """Return the claimRef of a volume for a claim."""
    metadata = claim["metadata"]
    return {
        "kind": "PersistentVolumeClaim",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "v1",
        "resourceVersion": metadata.get("resourceVersion", ""),
    }


def by_claim_reference(volume: Object) -> Iterable[tuple[str, str]]:
    """Return (namespace, name) of the claim for which a volume is reserved: the key of an index."""
    reference = volume["spec"].get("claimRef")
    return () if reference is None else ((reference.get("namespace") or "", reference.get("name") or ""),)


def by_free_class(volume: Object) -> Iterable[str]:
    """Return the name of the class of a volume that is free: the key of an index."""
    free = phase_of(volume) == "Available" and volume["spec"].get("claimRef") is None
    return (class_of(volume),) if free else ()


def by_wanted_class(claim: Object) -> Iterable[str]:
    """Return the name of the class of a claim that is not bound: the key of an index."""
    return () if claim["spec"].get("volumeName") else (class_of(claim),)
