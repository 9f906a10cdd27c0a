"""The claims of a StatefulSet's pods: one for each claim template and ordinal (`statefulset/stateful_set_utils.go`).

By default, a claim is kept when its pod or its StatefulSet is deleted. With persistentVolumeClaimRetentionPolicy, the
claim's owner can be the StatefulSet, or a pod beyond spec.replicas. When this owner is deleted, the garbage collector
deletes the claim.
"""

from __future__ import annotations

import asyncio

from hatchway.cluster.controllers.controller import ControllerContext, Recorder
from hatchway.cluster.controllers.objectfields import clone, controller_reference, is_deleting, owner_references
from hatchway.cluster.controllers.statefulplan import ordinal_of
from hatchway.cluster.controllers.volumematch import CLAIMS
from hatchway.cluster.controllers.writes import is_namespace_terminating
from hatchway.errors import ApiError
from hatchway.kube.api import Object


def claim_name(owner: Object, template: Object, ordinal: int) -> str:
    """Return the name of the claim for a claim template and an ordinal."""
    return f"{template['metadata']['name']}-{owner['metadata']['name']}-{ordinal}"


def claims_for(owner: Object, ordinal: int) -> list[Object]:
    """Return the claims to create for the pod with an ordinal (`getPersistentVolumeClaims`)."""
    found = []
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        claim = clone(template)
        claim.pop("status", None)
        metadata = claim["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), **(owner["spec"]["selector"].get("matchLabels") or {})}
        metadata["name"] = claim_name(owner, template, ordinal)
        metadata["namespace"] = owner["metadata"]["namespace"]
        found.append(claim)
    return found


def is_surplus(owner: Object, ordinal: int) -> bool:
    """Return True when the pod with this ordinal is beyond spec.replicas."""
    start = (owner["spec"].get("ordinals") or {}).get("start", 0)
    return not start <= ordinal < start + int(owner["spec"].get("replicas", 1))


def owners_of_claim(owner: Object, pod: Object | None, claim: Object, ordinal: int) -> list[Object]:
    """Return the owner references that follow from the retention policy (`updateClaimOwnerRefForSetAndPod`)."""
    policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    surplus = is_surplus(owner, ordinal) and policy.get("whenScaled") == "Delete"
    by_set = policy.get("whenDeleted") == "Delete" and not surplus
    name = owner["metadata"]["name"]
    kept = []
    for one in owner_references(claim):
        ours = one.get("kind") == "StatefulSet" and one.get("name") == name
        ours = ours or (one.get("kind") == "Pod" and one.get("name") == f"{name}-{ordinal}")
        if not ours:
            kept.append(one)
    if by_set:
        kept.append(controller_reference(owner))
    elif surplus and pod is not None:
        kept.append(controller_reference({"apiVersion": "v1", "kind": "Pod", **pod}))
    return kept


class StatefulClaims:
    """Creates the claims of StatefulSets, and updates their owners. events: the recorder for StatefulSets."""

    def __init__(self, context: ControllerContext, events: Recorder) -> None:
        self._client = context.client
        self.claims = context.cache(CLAIMS)
        self._events = events

    async def ensure(self, owner: Object, pod: Object, ordinal: int) -> None:
        """Create the missing claims of a pod. Raises ApiError; 409 while a claim with that name is being deleted."""
        for wanted in claims_for(owner, ordinal):
            metadata = wanted["metadata"]
            found = self.claims.get((metadata["namespace"], metadata["name"]))
            if found is not None:
                if is_deleting(found):
                    raise ApiError(409, "Conflict", f"pvc {metadata['name']} is being deleted")
                continue
            references = owners_of_claim(owner, None, wanted, ordinal)
            if references:
                metadata["ownerReferences"] = references
            about = f"Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']}"
            try:
                made = await self._client.create(CLAIMS, wanted, metadata["namespace"])
            except ApiError as error:
                if error.reason == "AlreadyExists" or is_namespace_terminating(error):
                    raise
                text = f"create Claim {metadata['name']} for {about} failed error: {error.message}"
                self._events.event(owner, "Warning", "FailedCreate", text)
                raise
            text = f"create Claim {metadata['name']} {about} success"
            self._events.event(owner, "Normal", "SuccessfulCreate", text)
            await self.claims.wait_for_write(made)

    async def keep_owners(self, owner: Object, pods: list[Object]) -> None:
        """Set the owners of the pods' claims as the retention policy says. Raises ApiError."""
        templates = owner["spec"].get("volumeClaimTemplates") or ()
        for pod in pods if templates else ():
            ordinal = ordinal_of(owner["metadata"]["name"], pod)
            # Let other tasks run: there may be thousands of pods.
            await asyncio.sleep(0)
            for template in templates if ordinal is not None else ():
                assert ordinal is not None
                found = self.claims.get((owner["metadata"]["namespace"], claim_name(owner, template, ordinal)))
                if found is None or is_deleting(found):
                    continue
                references = owners_of_claim(owner, pod, found, ordinal)
                if _same(references, owner_references(found)):
                    continue
                metadata = {**found["metadata"], "ownerReferences": references}
                written = await self._client.update(CLAIMS, {**found, "metadata": metadata})
                await self.claims.wait_for_write(written)


def _same(one: list[Object], other: list[Object]) -> bool:
    return sorted(map(_reference_uid, one)) == sorted(map(_reference_uid, other))


def _reference_uid(reference: Object) -> str:
    return str(reference.get("uid") or "")
