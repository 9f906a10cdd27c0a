"""Printers of volumes, claims and the types of storage (`pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import (
    AGE,
    NAME,
    Cells,
    Column,
    Json,
    Printer,
    age_of,
    metadata_of,
    name_of,
)

__all__ = [
    "CSI_DRIVER",
    "CSI_NODE",
    "CSI_STORAGE_CAPACITY",
    "PERSISTENT_VOLUME",
    "PERSISTENT_VOLUME_CLAIM",
    "STORAGE_CLASS",
    "VOLUME_ATTACHMENT",
    "VOLUME_ATTRIBUTES_CLASS",
]

_UNSET = "<unset>"
_MODES = (("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP"))
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def _modes(modes: list[str] | None) -> str:
    return ",".join(short for mode, short in _MODES if mode in (modes or ()))


def _class(obj: Json) -> str:
    annotation = (metadata_of(obj).get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    return str(annotation or (obj.get("spec") or {}).get("storageClassName") or "")


def _volume(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef")
    phase = "Terminating" if metadata_of(obj).get("deletionTimestamp") else status.get("phase", "")
    return [
        name_of(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        phase,
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or _UNSET,
        status.get("reason", ""),
        age_of(obj, now),
        spec.get("volumeMode") or _UNSET,
    ]


def _claim(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    volume, capacity, modes = spec.get("volumeName") or "", "", ""
    if volume:
        capacity = (status.get("capacity") or {}).get("storage", "0")
        modes = _modes(status.get("accessModes"))
    phase = "Terminating" if metadata_of(obj).get("deletionTimestamp") else status.get("phase", "")
    return [
        name_of(obj),
        phase,
        volume,
        capacity,
        modes,
        _class(obj),
        spec.get("volumeAttributesClassName") or _UNSET,
        age_of(obj, now),
        spec.get("volumeMode") or _UNSET,
    ]


def _storage_class(obj: Json, now: float) -> Cells:
    annotations = metadata_of(obj).get("annotations") or {}
    shown = name_of(obj) + (" (default)" if any(annotations.get(key) == "true" for key in _DEFAULT) else "")
    return [
        shown,
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age_of(obj, now),
    ]


def _attributes_class(obj: Json, now: float) -> Cells:
    return [name_of(obj), obj.get("driverName", ""), age_of(obj, now)]


def _attachment(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool((obj.get("status") or {}).get("attached"))
    return [name_of(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age_of(obj, now)]


def _driver(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    requests = ",".join(one.get("audience", "") for one in spec.get("tokenRequests") or ())
    return [
        name_of(obj),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        requests or _UNSET,
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        age_of(obj, now),
    ]


def _csi_node(obj: Json, now: float) -> Cells:
    return [name_of(obj), len((obj.get("spec") or {}).get("drivers") or ()), age_of(obj, now)]


def _capacity(obj: Json, now: float) -> Cells:
    return [name_of(obj), obj.get("storageClassName", ""), obj.get("capacity") or _UNSET]


_CLASS = Column("StorageClass", description="The volume's class")
_ATTRIBUTES = Column("VolumeAttributesClass", description="The class of the volume's changeable attributes")
_MODE = Column("VolumeMode", wide=True, description="Filesystem or Block")
PERSISTENT_VOLUME = Printer(
    _volume,
    NAME,
    Column("Capacity", description="How much the volume holds"),
    Column("Access Modes", description="How the volume can be mounted"),
    Column("Reclaim Policy", description="What happens to the volume when its claim is deleted"),
    Column("Status", description="The phase: Available, Bound, Released or Failed"),
    Column("Claim", description="The claim to which the volume is bound"),
    _CLASS,
    _ATTRIBUTES,
    Column("Reason", description="Why the volume has failed"),
    AGE,
    _MODE,
)
PERSISTENT_VOLUME_CLAIM = Printer(
    _claim,
    NAME,
    Column("Status", description="The phase: Pending, Bound or Lost"),
    Column("Volume", description="The volume to which the claim is bound"),
    Column("Capacity", description="How much the volume holds"),
    Column("Access Modes", description="How the volume can be mounted"),
    _CLASS,
    _ATTRIBUTES,
    AGE,
    _MODE,
)
STORAGE_CLASS = Printer(
    _storage_class,
    NAME,
    Column("Provisioner", description="The program that creates the volumes"),
    Column("ReclaimPolicy", description="What happens to a volume when its claim is deleted"),
    Column("VolumeBindingMode", description="When a volume is created: immediately, or when a pod uses the claim"),
    Column("AllowVolumeExpansion", description="Whether claims may be enlarged later"),
    AGE,
)
VOLUME_ATTRIBUTES_CLASS = Printer(
    _attributes_class,
    NAME,
    Column("DriverName", description="The driver that changes the volumes"),
    AGE,
)
VOLUME_ATTACHMENT = Printer(
    _attachment,
    NAME,
    Column("Attacher", format="name", description="The driver that attaches the volume"),
    Column("PV", description="The volume"),
    Column("Node", description="The node"),
    Column("Attached", "boolean", description="Whether the volume is attached"),
    AGE,
)
CSI_DRIVER = Printer(
    _driver,
    NAME,
    Column("AttachRequired", "boolean", description="Whether volumes must be attached"),
    Column("PodInfoOnMount", "boolean", description="Whether the driver gets information about the pod"),
    Column("StorageCapacity", "boolean", description="Whether the driver reports capacities"),
    Column("TokenRequests", description="The audiences of the tokens that the driver gets"),
    Column("RequiresRepublish", "boolean", description="Whether volumes are republished regularly"),
    Column("Modes", description="The kinds of volumes that the driver supports"),
    AGE,
)
CSI_NODE = Printer(_csi_node, NAME, Column("Drivers", "integer", description="How many drivers the node has"), AGE)
CSI_STORAGE_CAPACITY = Printer(
    _capacity,
    NAME,
    Column("StorageClassName", description="The class"),
    Column("Capacity", description="How much can be provisioned"),
)
