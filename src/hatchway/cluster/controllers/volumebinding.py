"""Binds claims to volumes, and updates the phases of both (`pkg/controller/volume/persistentvolume`).

A claim's spec.volumeName and a volume's spec.claimRef refer to each other. A user may set either of them beforehand.
There is only one worker, so that two claims never get the same volume.
"""

from __future__ import annotations

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import annotations_of, is_deleting, uid_of
from hatchway.cluster.controllers.volumematch import (
    BETA_PROVISIONER,
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    CLAIMS,
    CLASSES,
    NO_PROVISIONER,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    VOLUMES,
    by_claim_reference,
    by_free_class,
    by_wanted_class,
    class_of,
    find_match,
    is_bound_to,
    mismatch,
    phase_of,
    reference_to,
    waits_for_consumer,
)
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_finished, key_of
from hatchway.kube.volumeclaims import by_claim

_EXTERNAL = (
    "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system "
    "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly "
    "registered."
)
_NO_VOLUME = "no persistent volumes available for this claim and no storage class is set"
_LOST = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
_LOST_REFERENCE = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
_MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"
# The two kinds of keys.
_CLAIM, _VOLUME = "claim", "volume"


class VolumeBindingController(Controller):
    """Binds claims and volumes to each other, and updates their phases."""

    name = "persistentvolume-controller"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.claims = context.cache(CLAIMS)
        self.volumes = context.cache(VOLUMES)
        self.classes = context.cache(CLASSES)
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        self.claims.subscribe(self._claim_changed)
        self.volumes.subscribe(self._volume_changed)
        self.classes.subscribe(self._class_changed)

    # --- changes of objects ----------------------------------------------------------------------------------------

    def _claim_changed(self, kind: str, claim: Object, before: Object | None) -> None:
        if kind != "DELETED":
            self.queue.add((_CLAIM, *key_of(claim)))
        for volume in self.volumes.index(by_claim_reference).get(key_of(claim)):
            self.queue.add((_VOLUME, "", volume["metadata"]["name"]))
        name = claim["spec"].get("volumeName")
        if name:
            self.queue.add((_VOLUME, "", name))

    def _volume_changed(self, kind: str, volume: Object, before: Object | None) -> None:
        if kind != "DELETED":
            self.queue.add((_VOLUME, "", volume["metadata"]["name"]))
        for key in (*by_claim_reference(volume), *(by_claim_reference(before) if before is not None else ())):
            self.queue.add((_CLAIM, *key))
        if phase_of(volume) == "Available" and (before is None or phase_of(before) != "Available"):
            self._retry_class(class_of(volume))
        for claim in self.claims.index(_by_volume).get(volume["metadata"]["name"]):
            self.queue.add((_CLAIM, *key_of(claim)))

    def _class_changed(self, kind: str, storage_class: Object, before: Object | None) -> None:
        if kind != "DELETED":
            self._retry_class(storage_class["metadata"]["name"])

    def _retry_class(self, name: str) -> None:
        for claim in self.claims.index(by_wanted_class).get(name):
            self.queue.add((_CLAIM, *key_of(claim)))

    async def reconcile(self, key: tuple[str, str, str]) -> float | None:
        """Perform the next actions for one claim or one volume."""
        kind, namespace, name = key
        if kind == _CLAIM:
            claim = self.claims.get((namespace, name))
            if claim is not None:
                await self._sync_claim(claim)
        else:
            volume = self.volumes.get((namespace, name))
            if volume is not None:
                await self._sync_volume(volume)
        return None

    # --- claims ------------------------------------------------------------------------------------------------------

    async def _sync_claim(self, claim: Object) -> None:
        if BIND_COMPLETED in annotations_of(claim):
            await self._sync_bound(claim)
        elif claim["spec"].get("volumeName"):
            await self._sync_requested(claim)
        elif not is_deleting(claim):
            await self._sync_unbound(claim)

    async def _sync_unbound(self, claim: Object) -> None:
        name = class_of(claim)
        storage_class = self.classes.get(("", name)) if name else None
        delayed = waits_for_consumer(storage_class) and not annotations_of(claim).get(SELECTED_NODE)
        # A volume that is reserved for the claim may be of any class.
        reserved = self.volumes.index(by_claim_reference).get(key_of(claim))
        volume = find_match(claim, [*reserved, *self.volumes.index(by_free_class).get(name)], delayed=delayed)
        if volume is not None:
            await self._bind(volume, claim)
            return
        if delayed:
            self._report_waiting(claim)
        elif name:
            await self._request_volume(claim, name, storage_class)
            return
        else:
            self.events.event(claim, "Normal", "FailedBinding", _NO_VOLUME)
        await self._write_claim_phase(claim, "Pending")

    def _report_waiting(self, claim: Object) -> None:
        pods = [
            pod["metadata"]["name"]
            for pod in self.pods.index(by_claim).get(key_of(claim))
            if not pod["spec"].get("nodeName") and not is_finished(pod) and not is_deleting(pod)
        ]
        if not pods:
            text = "waiting for first consumer to be created before binding"
            self.events.event(claim, "Normal", "WaitForFirstConsumer", text)
        else:
            text = f"waiting for pod{'s' * (len(pods) > 1)} {','.join(sorted(pods)[:10])} to be scheduled"
            self.events.event(claim, "Normal", "WaitForPodScheduled", text)

    async def _request_volume(self, claim: Object, name: str, storage_class: Object | None) -> None:
        if storage_class is None:
            text = f'storageclass.storage.k8s.io "{name}" not found'
            self.events.event(claim, "Warning", "ProvisioningFailed", text)
            await self._write_claim_phase(claim, "Pending")
            return
        provisioner = str(storage_class.get("provisioner") or "")
        if provisioner == NO_PROVISIONER:
            text = f"no volume plugin matched name: {provisioner}"
            self.events.event(claim, "Warning", "ProvisioningFailed", text)
            await self._write_claim_phase(claim, "Pending")
            return
        wanted = {PROVISIONER: provisioner, BETA_PROVISIONER: provisioner}
        if any(annotations_of(claim).get(key) != value for key, value in wanted.items()):
            metadata = {**claim["metadata"], "annotations": {**annotations_of(claim), **wanted}}
            claim = await self._write(CLAIMS, {**claim, "metadata": metadata})
        self.events.event(claim, "Normal", "ExternalProvisioning", _EXTERNAL.format(provisioner))

    async def _sync_requested(self, claim: Object) -> None:
        """Bind a claim to the volume that it names, if that volume matches and is free."""
        name = claim["spec"]["volumeName"]
        volume = self.volumes.get(("", name))
        if volume is None:
            await self._write_claim_phase(claim, "Pending")
        elif volume["spec"].get("claimRef") is None:
            problem = mismatch(volume, claim)
            if problem:
                text = f'Cannot bind to requested volume "{name}": {problem}'
                self.events.event(claim, "Warning", "VolumeMismatch", text)
                await self._write_claim_phase(claim, "Pending")
            else:
                await self._bind(volume, claim)
        elif is_bound_to(volume, claim):
            await self._bind(volume, claim)
        else:
            text = f'volume "{name}" already bound to a different claim.'
            self.events.event(claim, "Warning", "FailedBinding", text)
            await self._write_claim_phase(claim, "Pending")

    async def _sync_bound(self, claim: Object) -> None:
        name = claim["spec"].get("volumeName")
        volume = self.volumes.get(("", name)) if name else None
        if volume is None:
            await self._mark_lost(claim, "ClaimLost", _LOST if name else _LOST_REFERENCE)
            return
        reference = volume["spec"].get("claimRef")
        if reference is None or reference.get("uid") == uid_of(claim):
            await self._bind(volume, claim)
        else:
            await self._mark_lost(claim, "ClaimMisbound", _MISBOUND)

    async def _mark_lost(self, claim: Object, reason: str, text: str) -> None:
        if phase_of(claim) != "Lost":
            self.events.event(claim, "Warning", reason, text)
            await self._write_claim_phase(claim, "Lost")

    async def _write_claim_phase(self, claim: Object, phase: str) -> None:
        if phase_of(claim) != phase:
            await self._write(CLAIMS, {**claim, "status": {"phase": phase}}, subresource="status")

    # --- binding -----------------------------------------------------------------------------------------------------

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Write the binding into the volume and the claim, where it is not yet written."""
        volume = await self._bind_volume(volume, claim)
        volume = await self._write_volume_phase(volume, "Bound")
        claim = await self._bind_claim(volume, claim)
        status = {
            **(claim.get("status") or {}),
            "phase": "Bound",
            "accessModes": list(volume["spec"].get("accessModes") or ()),
            "capacity": dict(volume["spec"].get("capacity") or {}),
        }
        attributes = volume["spec"].get("volumeAttributesClassName")
        if attributes is not None and phase_of(claim) != "Bound":
            # After the claim is bound, only the volume's driver changes this field.
            status["currentVolumeAttributesClassName"] = attributes
        former = claim.get("status") or {}
        if phase_of(claim) == "Bound" and former.get("capacity"):
            # The capacity of a bound claim changes only at the end of a resize.
            status["capacity"] = former["capacity"]
        if status != former:
            await self._write(CLAIMS, {**claim, "status": status}, subresource="status")

    async def _bind_volume(self, volume: Object, claim: Object) -> Object:
        reference = volume["spec"].get("claimRef")
        if reference is not None and reference.get("uid") == uid_of(claim):
            return volume
        annotations = dict(annotations_of(volume))
        if reference is None or not is_bound_to(volume, claim):
            annotations[BOUND_BY_CONTROLLER] = "yes"
        wanted = {
            **volume,
            "metadata": {**volume["metadata"], "annotations": annotations},
            "spec": {**volume["spec"], "claimRef": reference_to(claim)},
        }
        return await self._write(VOLUMES, wanted)

    async def _bind_claim(self, volume: Object, claim: Object) -> Object:
        name = volume["metadata"]["name"]
        annotations = dict(annotations_of(claim))
        if claim["spec"].get("volumeName") != name:
            annotations[BOUND_BY_CONTROLLER] = "yes"
        annotations.setdefault(BIND_COMPLETED, "yes")
        if claim["spec"].get("volumeName") == name and annotations == annotations_of(claim):
            return claim
        wanted = {
            **claim,
            "metadata": {**claim["metadata"], "annotations": annotations},
            "spec": {**claim["spec"], "volumeName": name},
        }
        return await self._write(CLAIMS, wanted)

    # --- volumes -----------------------------------------------------------------------------------------------------

    async def _sync_volume(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if reference is None or not reference.get("uid"):
            await self._write_volume_phase(volume, "Available")
            if reference is not None:
                self.queue.add((_CLAIM, reference.get("namespace") or "", reference.get("name") or ""))
            return
        claim = await self._claim_of(reference)
        if claim is None:
            if phase_of(volume) not in ("Released", "Failed"):
                volume = await self._write_volume_phase(volume, "Released")
            await self._reclaim(volume)
        elif not claim["spec"].get("volumeName"):
            # The worker processes the claim next, and binds it to this volume, which is reserved for the claim.
            self.queue.add((_CLAIM, *key_of(claim)))
        elif claim["spec"]["volumeName"] == volume["metadata"]["name"]:
            await self._write_volume_phase(volume, "Bound")
        elif PROVISIONED_BY in annotations_of(volume) and _policy(volume) == "Delete":
            # The volume was provisioned for the claim, but the claim has been bound to another volume meanwhile.
            if phase_of(volume) not in ("Released", "Failed"):
                volume = await self._write_volume_phase(volume, "Released")
            await self._reclaim(volume)
        else:
            await self._unbind(volume)

    async def _claim_of(self, reference: Object) -> Object | None:
        """Return the claim with the reference's name and uid; None when it no longer exists.

        If the cache does not have it, the API server is asked, because a volume must not be released by mistake.
        """
        key: Key = (reference.get("namespace") or "", reference.get("name") or "")
        claim = self.claims.get(key)
        if claim is None or uid_of(claim) != reference["uid"]:
            try:
                claim = await self.client.get(CLAIMS, key[1], key[0])
            except ApiError as error:
                if error.code != 404:
                    raise
                return None
        return claim if uid_of(claim) == reference["uid"] else None

    async def _unbind(self, volume: Object) -> None:
        """Remove a reservation. A reservation that a user has made is kept, but without the uid."""
        annotations = dict(annotations_of(volume))
        spec = dict(volume["spec"])
        if annotations.pop(BOUND_BY_CONTROLLER, None) is not None:
            del spec["claimRef"]
        else:
            spec["claimRef"] = {key: value for key, value in spec["claimRef"].items() if key != "uid"}
        metadata = {**volume["metadata"], "annotations": annotations}
        volume = await self._write(VOLUMES, {**volume, "metadata": metadata, "spec": spec})
        await self._write_volume_phase(volume, "Available")

    async def _reclaim(self, volume: Object) -> None:
        """Apply the reclaim policy of a released volume. Provisioned volumes are deleted by their provisioner."""
        policy = _policy(volume)
        if policy == "Retain" or PROVISIONED_BY in annotations_of(volume) or phase_of(volume) == "Failed":
            return
        name = volume["metadata"]["name"]
        if policy == "Recycle":
            reason, text = "VolumeFailedRecycle", "No recycler plugin found for the volume!"
        elif "hostPath" in volume["spec"]:
            reason = "VolumeFailedDelete"
            text = f"host_path deleter only supports /tmp/.+ but received provided {volume['spec']['hostPath']['path']}"
            if volume["spec"]["hostPath"]["path"].startswith("/tmp/"):
                text = "this cluster deletes only the files of volumes that it has provisioned"
        else:
            reason = "VolumeFailedDelete"
            text = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
        self.events.event(volume, "Warning", reason, text)
        await self._write_volume_phase(volume, "Failed", text)

    async def _write_volume_phase(self, volume: Object, phase: str, message: str = "") -> Object:
        if phase_of(volume) == phase:
            return volume
        status: Object = {"phase": phase}
        if message:
            status["message"] = message
        return await self._write(VOLUMES, {**volume, "status": status}, subresource="status")

    async def _write(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Update an object, and wait until the cache has the new version. Raises ApiError."""
        written = await self.client.update(resource, obj, subresource=subresource)
        await self.context.cache(resource).wait_for_write(written)
        return written


def _policy(volume: Object) -> str:
    return str(volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain")


def _by_volume(claim: Object) -> tuple[str, ...]:
    name = claim["spec"].get("volumeName")
    return (name,) if name else ()
