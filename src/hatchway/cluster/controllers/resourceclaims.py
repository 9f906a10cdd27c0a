"""Makes ResourceClaims from templates for pods, and frees claims that no pod uses (`pkg/controller/resourceclaim`)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import annotations_of, clone, controller_reference, is_deleting, uid_of
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import is_finished, key_of
from hatchway.kube.resourceclaims import (
    DEVICE_CLAIMS,
    DEVICE_TEMPLATES,
    PodDeviceClaim,
    by_device_claim,
    device_claims_of,
    is_reserved_for,
    ownership_problem,
)

__all__ = ["CLAIM_FINALIZER", "MOST_CONSUMERS", "ResourceClaimController"]

# The finalizer of a claim that is allocated.
CLAIM_FINALIZER = "resource.kubernetes.io/delete-protection"
# The maximum number of pods that may use one claim.
MOST_CONSUMERS = 256
_POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
# The maximum number of characters of a generateName. The API server adds five random characters, and a name has at most
# 63.
_LONGEST_BASE = 57
_POD, _CLAIM = "pod", "claim"


class ResourceClaimController(Controller):
    """Creates the claims of pods, reserves them for pods that have a node, and frees claims whose pods are done."""

    name = "resource_claim"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.pods = context.cache("pods")
        self.claims = context.cache(DEVICE_CLAIMS)
        self.templates = context.cache(DEVICE_TEMPLATES)
        self.events = context.recorder(self.name)
        self.pods.subscribe(self._pod_changed)
        self.claims.subscribe(self._claim_changed)
        self.templates.subscribe(self._template_changed)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        if not pod["spec"].get("resourceClaims"):
            return
        if kind == "DELETED" or _is_done(pod):
            for key in (*by_device_claim(pod), *(key_of(one) for one in self.claims.index(_by_owner).get(uid_of(pod)))):
                self.queue.add((_CLAIM, key))
        if kind != "DELETED":
            self.queue.add((_POD, key_of(pod)))

    def _claim_changed(self, kind: str, claim: Object, before: Object | None) -> None:
        if kind != "DELETED":
            self.queue.add((_CLAIM, key_of(claim)))
        for pod in self.pods.index(by_device_claim).get(key_of(claim)):
            self.queue.add((_POD, key_of(pod)))

    def _template_changed(self, kind: str, template: Object, before: Object | None) -> None:
        for pod in self.pods.index(_by_template).get(key_of(template)):
            self.queue.add((_POD, key_of(pod)))

    async def reconcile(self, key: tuple[str, tuple[str, str]]) -> float | None:
        """Bring the claims of one pod, or one claim, up to date."""
        kind, place = key
        if kind == _POD:
            pod = self.pods.get(place)
            if pod is not None and not is_deleting(pod) and not is_finished(pod):
                await self._sync_pod(pod)
        elif (claim := self.claims.get(place)) is not None:
            await self._sync_claim(claim)
        return None

    # --- pods ------------------------------------------------------------------------------------------------------

    async def _sync_pod(self, pod: Object) -> None:
        made: dict[str, str] = {}
        for one in device_claims_of(pod):
            try:
                name = await self._ensure_claim(pod, one)
            except ApiError as error:
                text = f"PodResourceClaim {one.reference}: {error.message}"
                self.events.event(pod, "Warning", "FailedResourceClaimCreation", text)
                if error.code == 404 and self.templates.get((key_of(pod)[0], one.template)) is None:
                    # When the template is created, `_template_changed` tries again.
                    return
                raise
            if name:
                made[one.reference] = name
        if made:
            statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
            known = {one.get("name") or "": one for one in statuses}
            known |= {name: {"name": name, "resourceClaimName": claim} for name, claim in made.items()}
            namespace, name = key_of(pod)
            patch = {"metadata": {"uid": uid_of(pod)}, "status": {"resourceClaimStatuses": list(known.values())}}
            pod = await self.client.patch("pods", name, patch, namespace, subresource="status")
            await self.pods.wait_for_write(pod)
        if pod["spec"].get("nodeName"):
            # If a user has set nodeName, the scheduler has not reserved the pod's claims.
            await self._reserve_all(pod)

    async def _ensure_claim(self, pod: Object, reference: PodDeviceClaim) -> str:
        """Make the claim for a reference if it does not exist.

        Returns its name when the pod's status must be changed to show it, else "".
        """
        if not reference.template or not reference.is_needed:
            return ""
        namespace = key_of(pod)[0]
        if reference.name:
            found = self.claims.get((namespace, reference.name))
            if found is not None and not ownership_problem(found, pod):
                return ""
        for claim in self.claims.index(_by_owner).get(uid_of(pod)):
            if annotations_of(claim).get(_POD_CLAIM) == reference.reference:
                return str(claim["metadata"]["name"])
        template = self.templates.get((namespace, reference.template))
        if template is None:
            text = (
                f'resource claim template "{reference.template}": {DEVICE_TEMPLATES} "{reference.template}" not found'
            )
            raise ApiError(404, "NotFound", text)
        spec = template.get("spec") or {}
        given = spec.get("metadata") or {}
        metadata: Object = {
            "generateName": _name_prefix(key_of(pod)[1], reference.reference),
            "ownerReferences": [_owner(pod)],
            "annotations": {**(given.get("annotations") or {}), _POD_CLAIM: reference.reference},
        }
        if given.get("labels"):
            metadata["labels"] = dict(given["labels"])
        claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata}
        made = await self.client.create(DEVICE_CLAIMS, {**claim, "spec": clone(spec.get("spec") or {})}, namespace)
        await self.claims.wait_for_write(made)
        return str(made["metadata"]["name"])

    async def _reserve_all(self, pod: Object) -> None:
        namespace, name = key_of(pod)
        for one in device_claims_of(pod):
            claim = self.claims.get((namespace, one.name)) if one.name else None
            if claim is None or (one.template and ownership_problem(claim, pod)):
                continue
            status = claim.get("status") or {}
            consumers = status.get("reservedFor") or []
            if status.get("allocation") is None or is_reserved_for(claim, pod) or len(consumers) >= MOST_CONSUMERS:
                continue
            consumer = {"resource": "pods", "name": name, "uid": uid_of(pod)}
            status = {**status, "reservedFor": [*consumers, consumer]}
            await self.client.update(DEVICE_CLAIMS, {**claim, "status": status}, subresource="status")

    # --- claims ----------------------------------------------------------------------------------------------------

    async def _sync_claim(self, claim: Object) -> None:
        """Free a claim whose pods are done. Delete it if it was made for a pod that is done."""
        status = claim.get("status") or {}
        consumers = status.get("reservedFor") or []
        remaining = [one for one in consumers if await self._is_in_use(claim, one)]
        finalizers = claim["metadata"].get("finalizers") or []
        is_ours = CLAIM_FINALIZER in finalizers
        freed = not remaining and is_ours and (bool(consumers) or is_deleting(claim))
        if len(remaining) < len(consumers) or (freed and status.get("allocation") is not None):
            wanted = {**status, "reservedFor": remaining}
            if freed:
                wanted.pop("allocation", None)
            claim = await self.client.update(DEVICE_CLAIMS, {**claim, "status": wanted}, subresource="status")
        if freed:
            metadata = {**claim["metadata"], "finalizers": [one for one in finalizers if one != CLAIM_FINALIZER]}
            claim = await self.client.update(DEVICE_CLAIMS, {**claim, "metadata": metadata})
        if remaining or is_deleting(claim):
            return
        for owner in claim["metadata"].get("ownerReferences") or ():
            if not owner.get("controller") or (owner.get("apiVersion"), owner.get("kind")) != ("v1", "Pod"):
                continue
            pod = self.pods.get((key_of(claim)[0], owner.get("name") or ""))
            # When the pod no longer exists, the garbage collector deletes the claim.
            if pod is not None and (uid_of(pod) != owner.get("uid") or _is_done(pod)):
                await self._delete(claim)
            return

    async def _is_in_use(self, claim: Object, consumer: Object) -> bool:
        if consumer.get("apiGroup") or consumer.get("resource") != "pods":
            return True
        namespace, name = key_of(claim)[0], consumer.get("name") or ""
        pod = self.pods.get((namespace, name))
        if pod is None:
            # The cache may be out of date, so ask the API server.
            try:
                pod = await self.client.get("pods", name, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                return False
        return uid_of(pod) == consumer.get("uid") and not _is_done(pod)

    async def _delete(self, claim: Object) -> None:
        namespace, name = key_of(claim)
        try:
            await self.client.delete(DEVICE_CLAIMS, name, namespace, uid=uid_of(claim))
        except ApiError as error:
            if error.code != 404:
                raise


def _is_done(pod: Object) -> bool:
    """Return True when no container of the pod runs or will run."""
    return is_finished(pod) or (is_deleting(pod) and not pod["spec"].get("nodeName"))


def _owner(pod: Object) -> Object:
    reference = controller_reference({"apiVersion": "v1", "kind": "Pod", **pod})
    return {key: value for key, value in reference.items() if key != "blockOwnerDeletion"}


def _name_prefix(pod: str, claim: str) -> str:
    """Return the generateName of a claim. If it is too long, both names are cut in proportion to their lengths."""
    found = f"{pod}-{claim}-"
    if len(found) <= _LONGEST_BASE:
        return found
    first, second = (one[: len(one) * _LONGEST_BASE // len(found)] for one in (pod, claim))
    return f"{first}-{second}"


def _by_owner(claim: Object) -> Iterable[Hashable]:
    return [one["uid"] for one in claim["metadata"].get("ownerReferences") or () if one.get("controller")]


def _by_template(pod: Object) -> Iterable[Hashable]:
    namespace = pod["metadata"].get("namespace", "")
    return [(namespace, one.template) for one in device_claims_of(pod) if one.template]
