"""Creates the claims of generic ephemeral volumes (`pkg/controller/volume/ephemeral`).

The garbage collector deletes them with their pods.
"""

from __future__ import annotations

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import clone, controller_reference, is_deleting
from hatchway.cluster.controllers.volumematch import CLAIMS
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_finished, key_of
from hatchway.kube.volumeclaims import by_claim, is_claim_of_pod


class EphemeralVolumeController(Controller):
    """Creates a claim for each ephemeral volume of each pod. The pod owns the claim."""

    name = "ephemeral_volume"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.pods = context.cache("pods")
        self.claims = context.cache(CLAIMS)
        self.events = context.recorder(self.name)
        self.pods.subscribe(self._pod_changed)
        self.claims.subscribe(self._claim_changed)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        if kind != "DELETED" and _ephemeral(pod):
            self.enqueue(pod)

    def _claim_changed(self, kind: str, claim: Object, before: Object | None) -> None:
        if kind == "DELETED":
            for pod in self.pods.index(by_claim).get(key_of(claim)):
                self._pod_changed("", pod, None)

    async def reconcile(self, key: Key) -> float | None:
        """Create the missing claims of the pod `key`."""
        pod = self.pods.get(key)
        if pod is None or is_deleting(pod) or is_finished(pod):
            return None
        for volume in _ephemeral(pod):
            await self._ensure(pod, volume)
        return None

    async def _ensure(self, pod: Object, volume: Object) -> None:
        namespace, name = key_of(pod)
        claim_name = f"{name}-{volume['name']}"
        found = self.claims.get((namespace, claim_name))
        if found is not None:
            if not is_claim_of_pod(found, pod):
                text = f'PVC "{namespace}/{claim_name}" was not created for pod "{namespace}/{name}" (pod is not owner)'
                self.events.event(pod, "Warning", "FailedBinding", f"ephemeral volume {volume['name']}: {text}")
            return
        template = volume["ephemeral"]["volumeClaimTemplate"]
        given = template.get("metadata") or {}
        metadata: Object = {
            "name": claim_name,
            "ownerReferences": [{**controller_reference({"apiVersion": "v1", "kind": "Pod", **pod})}],
        }
        for field in ("labels", "annotations"):
            if given.get(field):
                metadata[field] = clone(given[field])
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata}
        try:
            made = await self.client.create(CLAIMS, {**claim, "spec": clone(template["spec"])}, namespace)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                raise
            text = f"ephemeral volume {volume['name']}: create PVC {claim_name}: {error.message}"
            self.events.event(pod, "Warning", "FailedBinding", text)
            raise
        await self.claims.wait_for_write(made)


def _ephemeral(pod: Object) -> list[Object]:
    return [
        volume
        for volume in pod["spec"].get("volumes") or ()
        if (volume.get("ephemeral") or {}).get("volumeClaimTemplate") is not None
    ]
