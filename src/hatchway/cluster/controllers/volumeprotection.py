"""Prevents the deletion of claims that pods use, volumes that are bound, and VolumeAttributesClasses that are used.

As in `pkg/controller/volume/pvcprotection`, `pvprotection` and `vacprotection`, an object that is being deleted keeps
its finalizer until nothing uses it.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import is_deleting
from hatchway.cluster.controllers.volumematch import ATTRIBUTES_CLASSES, CLAIMS, VOLUMES, phase_of
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import Key, key_of
from hatchway.kube.volumeclaims import by_claim, claims_of, is_claim_of_pod

CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
ATTRIBUTES_CLASS_PROTECTION = "kubernetes.io/vac-protection"


class ClaimProtectionController(Controller):
    """Removes the finalizer of a deleted claim when no pod that has a node uses the claim."""

    name = "persistentvolumeclaim-protection-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.claims = context.cache(CLAIMS)
        self.pods = context.cache("pods")
        self.claims.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._pod_changed)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        if kind != "DELETED" and not is_deleting(pod):
            # A pod uses its claims until it is deleted, even after it has ended.
            return
        for key in by_claim(pod):
            self.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        """Add the finalizer to the claim `key`; remove it when the claim is being deleted and is not in use."""
        claim = self.claims.get(key)
        if claim is None:
            return None
        if not is_deleting(claim):
            await _set_finalizer(self.client, CLAIMS, claim, CLAIM_PROTECTION)
        elif not await self._in_use(claim):
            await _remove_finalizer(self.client, CLAIMS, claim, CLAIM_PROTECTION)
        return None

    async def _in_use(self, claim: Object) -> bool:
        pods = self.pods.index(by_claim).get(key_of(claim))
        if any(_uses(pod, claim) for pod in pods):
            return True
        for pod in pods:
            # The cache may not yet show that the pod was bound, so ask the API server.
            try:
                if _uses(await self.client.get("pods", pod["metadata"]["name"], pod["metadata"]["namespace"]), claim):
                    return True
            except ApiError as error:
                if error.code != 404:
                    raise
        return False


class VolumeProtectionController(Controller):
    """Removes the finalizer of a deleted volume when it is not bound."""

    name = "persistentvolume-protection-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.volumes = context.cache(VOLUMES)
        self.volumes.subscribe(self.enqueue_changed)

    async def reconcile(self, key: Key) -> float | None:
        """Add the finalizer to the volume `key`; remove it when the volume is being deleted and is not bound."""
        volume = self.volumes.get(key)
        if volume is None:
            return None
        if not is_deleting(volume):
            await _set_finalizer(self.client, VOLUMES, volume, VOLUME_PROTECTION)
        elif phase_of(volume) != "Bound":
            await _remove_finalizer(self.client, VOLUMES, volume, VOLUME_PROTECTION)
        return None


def _by_attributes_class(obj: Object) -> Iterable[str]:
    """Return the names of the VolumeAttributesClasses of a claim or a volume: the keys of an index."""
    spec, status = obj["spec"], obj.get("status") or {}
    found = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return dict.fromkeys(one for one in found if one)


class AttributesClassProtectionController(Controller):
    """Removes the finalizer of a deleted VolumeAttributesClass when no claim and no volume names the class."""

    name = "volumeattributesclass-protection-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.classes = context.cache(ATTRIBUTES_CLASSES)
        self.users = (context.cache(CLAIMS), context.cache(VOLUMES))
        self.classes.subscribe(self.enqueue_changed)
        for cache in self.users:
            cache.subscribe(self._user_changed)

    def _user_changed(self, kind: str, obj: Object, before: Object | None) -> None:
        freed = set(_by_attributes_class(before or obj)) - (
            set() if kind == "DELETED" else {*_by_attributes_class(obj)}
        )
        for name in freed:
            self.queue.add(("", name))

    async def reconcile(self, key: Key) -> float | None:
        """Add the finalizer to the class `key`; remove it when the class is being deleted and is not in use."""
        found = self.classes.get(key)
        if found is None:
            return None
        if not is_deleting(found):
            await _set_finalizer(self.client, ATTRIBUTES_CLASSES, found, ATTRIBUTES_CLASS_PROTECTION)
        elif not any(cache.index(_by_attributes_class).get(key[1]) for cache in self.users):
            await _remove_finalizer(self.client, ATTRIBUTES_CLASSES, found, ATTRIBUTES_CLASS_PROTECTION)
        return None


def _uses(pod: Object, claim: Object) -> bool:
    """Return True when the pod uses the claim and has a node (`podUsesPVC`)."""
    if not pod["spec"].get("nodeName"):
        return False
    gone = is_deleting(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0
    return any(
        one.name == claim["metadata"]["name"] and (not one.ephemeral or (not gone and is_claim_of_pod(claim, pod)))
        for one in claims_of(pod)
    )


async def _set_finalizer(client: Client, resource: str, obj: Object, finalizer: str) -> None:
    found = obj["metadata"].get("finalizers") or []
    if finalizer not in found:
        await _write(client, resource, obj, [*found, finalizer])


async def _remove_finalizer(client: Client, resource: str, obj: Object, finalizer: str) -> None:
    found = obj["metadata"].get("finalizers") or []
    if finalizer in found:
        await _write(client, resource, obj, [one for one in found if one != finalizer])


async def _write(client: Client, resource: str, obj: Object, finalizers: list[str]) -> None:
    try:
        await client.update(resource, {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}})
    except ApiError as error:
        if error.code != 404:
            raise
