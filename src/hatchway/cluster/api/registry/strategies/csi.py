"""The types of CSI drivers (storage.k8s.io/v1): validation (`pkg/apis/storage/validation`).

The cluster has no driver: these objects are only stored and served.
"""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.persistentvolumes import validate_volume_spec
from hatchway.errors import Cause
from hatchway.kube.api import Object

_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES = ("Ephemeral", "Persistent")
_MAX_DRIVER, _MAX_NODE_ID = 63, 256
_CSI_UPDATES = ("attachRequired", "volumeLifecycleModes")


def driver_name(name: str, at: str) -> list[Cause]:
    """Return the errors in the name of a driver (`ValidateCSIDriverName`)."""
    if not name:
        return [v.required(at)]
    causes = [v.too_long(at, _MAX_DRIVER)] if len(name.encode()) > _MAX_DRIVER else []
    return causes + v.each(at, name.lower(), v.dns1123_subdomain(name.lower()))


class VolumeAttachmentStrategy(Strategy):
    """VolumeAttachments: the spec never changes."""

    requires_spec = True

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set the status to not attached."""
        obj["status"] = {"attached": False}

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the driver, the node and the volume."""
        spec = obj["spec"]
        causes = driver_name(spec.get("attacher") or "", "spec.attacher")
        source = spec.get("source") or {}
        name, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
        if name is None and inline is None:
            text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            causes.append(v.required("spec.source", text))
        elif name is not None and inline is not None:
            text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            causes.append(v.forbidden("spec.source", text))
        elif name is not None:
            causes += [v.required("spec.source.persistentVolumeName")] if not name else []
            causes += v.each("spec.source.persistentVolumeName", name, v.dns1123_subdomain(name)) if name else []
        else:
            causes += validate_volume_spec(inline or {}, "spec.source.inlineVolumeSpec")
        node = spec.get("nodeName") or ""
        return causes + v.each("spec.nodeName", node, v.dns1123_subdomain(node))

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the error in a change of the spec."""
        if obj["spec"] == old["spec"]:
            return self.validate(obj)
        return [*self.validate(obj), v.invalid("spec", obj["spec"], "field is immutable")]


class CSIDriverStrategy(Strategy):
    """CSIDrivers."""

    requires_spec = True
    generation = True

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Return the errors in the name of a driver."""
        return [cause.message for cause in driver_name(name, "metadata.name")] if name else []

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the properties of a driver."""
        spec = obj["spec"]
        causes = [
            v.required(f"spec.{key}") for key in ("attachRequired", "podInfoOnMount", "storageCapacity")
            if spec.get(key) is None
        ]  # fmt: skip
        policy = spec.get("fsGroupPolicy")
        if policy is not None and policy not in _GROUP_POLICIES:
            causes.append(v.not_supported("spec.fsGroupPolicy", policy, _GROUP_POLICIES))
        for mode in spec.get("volumeLifecycleModes") or ():
            if mode not in _LIFECYCLES:
                causes.append(v.not_supported("spec.volumeLifecycleModes", mode, _LIFECYCLES))
        audiences: set[str] = set()
        for index, request in enumerate(spec.get("tokenRequests") or ()):
            at = f"spec.tokenRequests[{index}]"
            audience = request.get("audience") or ""
            if audience in audiences:
                causes.append(v.duplicate(f"{at}.audience", audience))
            audiences.add(audience)
            seconds = request.get("expirationSeconds")
            if seconds is not None and seconds < 600:
                text = "may not specify a duration less than 10 minutes"
                causes.append(v.invalid(f"{at}.expirationSeconds", seconds, text))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change."""
        causes = self.validate(obj)
        for key in _CSI_UPDATES:
            causes += v.immutable(obj["spec"].get(key), old["spec"].get(key), f"spec.{key}")
        return causes


class CSINodeStrategy(Strategy):
    """CSINodes: the drivers of a node."""

    requires_spec = True

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the drivers of a node."""
        causes: list[Cause] = []
        names: set[str] = set()
        for index, driver in enumerate(obj["spec"].get("drivers") or ()):
            at = f"spec.drivers[{index}]"
            name, node = driver.get("name") or "", driver.get("nodeID") or ""
            causes += driver_name(name, f"{at}.name")
            if not node:
                causes.append(v.required(f"{at}.nodeID"))
            elif len(node.encode()) > _MAX_NODE_ID:
                causes.append(v.invalid(f"{at}.nodeID", node, f"must be {_MAX_NODE_ID} characters or less"))
            count = (driver.get("allocatable") or {}).get("count")
            causes += v.non_negative(count, f"{at}.allocatable.count")
            for key in driver.get("topologyKeys") or ():
                causes += v.each(f"{at}.topologyKeys", key, v.qualified_name(key))
            if name in names:
                causes.append(v.duplicate(f"{at}.name", name))
            names.add(name)
        return causes


class CSIStorageCapacityStrategy(Strategy):
    """CSIStorageCapacities: the capacity that a driver can provision in a part of the cluster."""

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the class, the topology and the amounts."""
        name = obj.get("storageClassName") or ""
        causes = v.each("storageClassName", name, v.dns1123_subdomain(name))
        causes += v.label_selector(obj.get("nodeTopology"), "nodeTopology")
        for key in ("capacity", "maximumVolumeSize"):
            amount = obj.get(key)
            if amount is not None and quantity_value(amount) < 0:
                causes.append(v.invalid(key, str(amount), "must be greater than or equal to 0"))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: topology and class must not change."""
        causes = self.validate(obj)
        for key in ("nodeTopology", "storageClassName"):
            causes += v.immutable(obj.get(key), old.get(key), key)
        return causes
