"""Creates and deletes the volumes of the default StorageClass, as Rancher's local-path provisioner does for kind.

A volume is a directory of one node, and pods that use it run on that node. The rules come from
`sig-storage-lib-external-provisioner` (`controller/controller.go`) and `local-path-provisioner` (`provisioner.go`).
"""

from __future__ import annotations

import asyncio

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import annotations_of, is_deleting, labels_of, uid_of
from hatchway.cluster.controllers.volumematch import (
    BETA_PROVISIONER,
    CLAIMS,
    CLASSES,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    VOLUMES,
    class_of,
    phase_of,
    reference_to,
    waits_for_consumer,
)
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.cluster.localvolumes import ROOT
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import key_of

LOCAL_PATH = "rancher.io/local-path"
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
_HOSTNAME = "kubernetes.io/hostname"
_NODE_ANNOTATION = "local.path.provisioner/selected-node"
_MODES = ("ReadWriteOnce", "ReadWriteOncePod")
_MAX_NAME = 255
_CLAIM, _VOLUME = "claim", "volume"


def default_storage_class() -> Object:
    """Return the StorageClass that a new cluster has: kind's."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


class ProvisionError(Exception):
    """A volume cannot be provisioned for a claim. The message is shown to the claim's author."""


class LocalPathProvisioner(Controller):
    """Creates a volume for each claim that this provisioner is responsible for, and deletes released volumes."""

    name = "rancher.io/local-path"
    workers = 2
    # In seconds. Deleting a volume with very many files takes long.
    deadline = 3600.0

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.claims = context.cache(CLAIMS)
        self.volumes = context.cache(VOLUMES)
        self.classes = context.cache(CLASSES)
        self.nodes = context.cache("nodes")
        self.events = context.recorder("rancher.io/local-path_local-path-provisioner")
        self.claims.subscribe(self._claim_changed)
        self.volumes.subscribe(self._volume_changed)

    def _claim_changed(self, kind: str, claim: Object, before: Object | None) -> None:
        if kind != "DELETED" and _waits_for_volume(claim):
            self.queue.add((_CLAIM, *key_of(claim)))

    def _volume_changed(self, kind: str, volume: Object, before: Object | None) -> None:
        if kind != "DELETED" and annotations_of(volume).get(PROVISIONED_BY) == LOCAL_PATH:
            self.queue.add((_VOLUME, "", volume["metadata"]["name"]))

    async def reconcile(self, key: tuple[str, str, str]) -> float | None:
        """Create the volume of one claim, or delete one volume."""
        kind, namespace, name = key
        if kind == _VOLUME:
            volume = self.volumes.get((namespace, name))
            if volume is not None:
                await self._reclaim(volume)
            return None
        claim = self.claims.get((namespace, name))
        if claim is not None and _waits_for_volume(claim):
            await self._provision(claim)
        return None

    # --- making ------------------------------------------------------------------------------------------------------

    async def _provision(self, claim: Object) -> None:
        storage_class = self.classes.get(("", class_of(claim)))
        if storage_class is None or storage_class.get("provisioner") != LOCAL_PATH:
            return
        selected = annotations_of(claim).get(SELECTED_NODE)
        if waits_for_consumer(storage_class) and not selected:
            return
        name = f"pvc-{uid_of(claim)}"
        if self.volumes.get(("", name)) is not None:
            return
        namespace, claim_name = key_of(claim)
        text = f'External provisioner is provisioning volume for claim "{namespace}/{claim_name}"'
        self.events.event(claim, "Normal", "Provisioning", text)
        node = self.nodes.get(("", selected)) if selected else None
        if selected and node is None:
            # Without the annotation, the scheduler chooses a node again (`rescheduleProvisioning`).
            annotations = {key: value for key, value in annotations_of(claim).items() if key != SELECTED_NODE}
            metadata = {**claim["metadata"], "annotations": annotations}
            await self.client.update(CLAIMS, {**claim, "metadata": metadata})
            return
        try:
            volume = await self._make(claim, storage_class, node, name)
        except (ProvisionError, OSError, ValueError) as error:
            shown = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            text = f'failed to provision volume with StorageClass "{class_of(claim)}": {shown}'
            self.events.event(claim, "Warning", "ProvisioningFailed", text)
            if isinstance(error, OSError):
                # Raise the error, so that provisioning is tried again: for example, a full disk may have space later.
                raise
            return
        try:
            await self.client.create(VOLUMES, volume)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            return
        self.events.event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")

    async def _make(self, claim: Object, storage_class: Object, node: Object | None, name: str) -> Object:
        """Make the volume's directory, and return the volume. Raises ProvisionError, OSError, ValueError."""
        spec = claim["spec"]
        modes = spec.get("accessModes") or []
        if node is None:
            raise ProvisionError("configuration error, no node was specified")
        if spec.get("volumeMode") == "Block":
            raise ProvisionError(f"{LOCAL_PATH} does not support block volume provisioning")
        if spec.get("selector") is not None:
            raise ProvisionError("claim.Spec.Selector is not supported")
        if any(mode not in _MODES for mode in modes):
            raise ProvisionError("NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes")
        if attributes := spec.get("volumeAttributesClassName"):
            text = f'VolumeAttributesClass "{attributes}" cannot be applied: only CSI drivers have such classes'
            raise ProvisionError(text)
        if spec.get("dataSource") is not None or spec.get("dataSourceRef") is not None:
            raise ProvisionError("claim.Spec.DataSource is not supported")
        directories = self.context.config.volume_directories
        if directories is None:
            raise ProvisionError("this cluster makes no volumes")
        if directories.problem():
            raise ProvisionError(directories.problem())
        namespace, claim_name = key_of(claim)
        directory = f"{name}_{namespace}_{claim_name}"[:_MAX_NAME]
        node_name = node["metadata"]["name"]
        await asyncio.to_thread(directories.make, node_name, directory)
        term = {"key": _HOSTNAME, "operator": "In", "values": [labels_of(node).get(_HOSTNAME, node_name)]}
        volume_spec: Object = {
            "accessModes": modes,
            "capacity": {"storage": (spec["resources"]["requests"])["storage"]},
            "claimRef": reference_to(claim),
            "hostPath": {"path": f"{ROOT}/{directory}", "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": class_of(claim),
            "volumeMode": "Filesystem",
        }
        if storage_class.get("mountOptions"):
            volume_spec["mountOptions"] = list(storage_class["mountOptions"])
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": {PROVISIONED_BY: LOCAL_PATH, _NODE_ANNOTATION: node_name},
                "finalizers": [FINALIZER],
            },
            "spec": volume_spec,
        }

    # --- deleting ----------------------------------------------------------------------------------------------------

    async def _reclaim(self, volume: Object) -> None:
        """Delete the directory and the object of a released volume, if its reclaim policy is Delete."""
        spec = volume["spec"]
        if spec.get("persistentVolumeReclaimPolicy") != "Delete":
            if is_deleting(volume):
                await self._drop_finalizer(volume)
            return
        if phase_of(volume) not in ("Released", "Failed"):
            return
        path = str((spec.get("hostPath") or {}).get("path") or "")
        above, _, directory = path.rpartition("/")
        node = annotations_of(volume).get(_NODE_ANNOTATION) or ""
        directories = self.context.config.volume_directories
        try:
            if above != ROOT or directories is None:
                raise ValueError(f"{path} is not the directory of a volume that was provisioned here")
            await asyncio.to_thread(directories.remove, node, directory)
        except (OSError, ValueError) as error:
            shown = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            self.events.event(volume, "Warning", "VolumeFailedDelete", shown)
            if isinstance(error, OSError):
                raise
            return
        await delete_unless_gone(self.client, VOLUMES, volume)
        try:
            # The request to delete the object has changed it, so read it again.
            await self._drop_finalizer(await self.client.get(VOLUMES, volume["metadata"]["name"]))
        except ApiError as error:
            if error.code != 404:
                raise

    async def _drop_finalizer(self, volume: Object) -> None:
        left = [one for one in volume["metadata"].get("finalizers") or () if one != FINALIZER]
        if left != (volume["metadata"].get("finalizers") or []):
            await self.client.update(VOLUMES, {**volume, "metadata": {**volume["metadata"], "finalizers": left}})


def _waits_for_volume(claim: Object) -> bool:
    """Return True when the claim waits for a volume from this provisioner."""
    annotations = annotations_of(claim)
    asked = annotations.get(PROVISIONER) or annotations.get(BETA_PROVISIONER)
    return asked == LOCAL_PATH and not claim["spec"].get("volumeName") and not is_deleting(claim)
