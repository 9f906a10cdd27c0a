"""The scheduler's part of volumes: finds the nodes that a pod's claims allow, and binds claims that wait for a node.

It works like kube-scheduler's plugins `volumebinding` and `volumerestrictions`. A claim of a class with the mode
WaitForFirstConsumer is bound when a node is chosen for its pod: to a free volume that can be used on that node. If
there is none, an annotation of the claim tells its provisioner the node. The pod is bound when all its claims are
bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hatchway.cluster.controllers.controller import ControllerContext
from hatchway.cluster.controllers.objectfields import annotations_of, is_deleting, uid_of
from hatchway.cluster.controllers.volumematch import (
    BOUND_BY_CONTROLLER,
    CLAIMS,
    CLASSES,
    SELECTED_NODE,
    VOLUMES,
    by_claim_reference,
    by_free_class,
    by_wanted_class,
    can_provision,
    class_of,
    find_match,
    is_fully_bound,
    phase_of,
    reference_to,
    waits_for_consumer,
)
from hatchway.kube.api import Object
from hatchway.kube.nodeselectors import volume_fits_node
from hatchway.kube.objects import is_finished, key_of
from hatchway.kube.volumeclaims import by_claim, claims_of, is_claim_of_pod

_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
_WRONG_NODE = "node(s) didn't match PersistentVolume's node affinity"
_NO_MATCH = "node(s) didn't find available persistent volumes to bind"
_NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
_IN_USE = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)
# A pod with more claims is not scheduled, because decisions about it would delay other pods.
_MAX_CLAIMS = 128
# Seconds after which a pod whose claims are being bound is checked again, even when nothing has changed.
_LOOK_AGAIN = 30.0


@dataclass(frozen=True, slots=True)
class UnboundClaim:
    """A claim that is bound after a node is chosen.

    volumes: the volumes that it may get.
    storage_class: its class; None when the class does not exist.
    """

    claim: Object
    volumes: list[Object]
    storage_class: Object | None


@dataclass(slots=True)
class ClaimsOfPod:
    """The state of the claims of a pod that has no node yet.

    problem: why the pod cannot run on any node; "" when it may.
    volumes: the volumes that are already bound; None for a volume that does not exist.
    unbound: the claims that are bound after a node is chosen.
    in_use: True if another pod uses a claim that only one pod may use at a time.
    """

    problem: str = ""
    in_use: bool = False
    volumes: list[Object | None] = field(default_factory=list)
    unbound: list[UnboundClaim] = field(default_factory=list)

    def refusals(self, node: Object) -> list[str]:
        """Return why the pod cannot use its volumes on the node; [] when it can. May be called on another thread."""
        if self.in_use:
            return [_IN_USE]
        if any(volume is None for volume in self.volumes):
            return [_NO_VOLUME]
        found = []
        if any(volume is not None and not volume_fits_node(volume, node) for volume in self.volumes):
            found.append(_WRONG_NODE)
        if self.unbound and _match(self.unbound, node) is None:
            found.append(_NO_MATCH)
        return found


class PodVolumes:
    """Reads and binds claims and volumes for the scheduler.

    changed: called with pods that must be scheduled again.
    has_node: returns True for a pod that has a node, or that is being bound to one.
    """

    def __init__(
        self,
        context: ControllerContext,
        changed: Callable[[Iterable[Object]], None],
        has_node: Callable[[Object], bool],
    ) -> None:
        self._has_node = has_node
        self._client = context.client
        self._pods = context.cache("pods")
        self._claims = context.cache(CLAIMS)
        self._volumes = context.cache(VOLUMES)
        self._classes = context.cache(CLASSES)
        self._changed = changed
        self._claims.subscribe(self._claim_changed)
        self._volumes.subscribe(self._volume_changed)
        self._classes.subscribe(self._class_changed)
        self._pods.subscribe(self._pod_changed)

    def _claim_changed(self, _kind: str, claim: Object, _before: Object | None) -> None:
        self._changed(self._pods.index(by_claim).get(key_of(claim)))

    def _volume_changed(self, _kind: str, volume: Object, before: Object | None) -> None:
        keys = set(by_claim_reference(volume))
        if phase_of(volume) == "Available" and (before is None or phase_of(before) != "Available"):
            keys |= {key_of(claim) for claim in self._claims.index(by_wanted_class).get(class_of(volume))}
        if keys:
            self._changed(self._pods.index(by_claim).get(*keys))

    def _class_changed(self, _kind: str, storage_class: Object, _before: Object | None) -> None:
        keys = [key_of(claim) for claim in self._claims.index(by_wanted_class).get(storage_class["metadata"]["name"])]
        if keys:
            self._changed(self._pods.index(by_claim).get(*keys))

    def _pod_changed(self, kind: str, pod: Object, _before: Object | None) -> None:
        # When a pod is deleted or has ended, another pod may use a claim that only one pod may use at a time.
        keys = list(by_claim(pod)) if kind == "DELETED" or is_finished(pod) else []
        if keys:
            self._changed(self._pods.index(by_claim).get(*keys))

    def claims_of(self, pod: Object) -> ClaimsOfPod:
        """Return the state of the pod's claims, which decides where the pod can run."""
        found = ClaimsOfPod()
        immediate = False
        namespace, pod_name = key_of(pod)
        wanted = list(claims_of(pod))
        if len(wanted) > _MAX_CLAIMS:
            return ClaimsOfPod("node(s) exceed max volume count")
        for one in wanted:
            claim = self._claims.get((namespace, one.name))
            problem = ""
            if claim is None:
                problem = f'persistentvolumeclaim "{one.name}" not found'
                if one.ephemeral:
                    problem = (
                        f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{one.name}"'
                    )
            elif phase_of(claim) == "Lost":
                volume = claim["spec"].get("volumeName") or ""
                problem = f'persistentvolumeclaim "{one.name}" bound to non-existent persistentvolume "{volume}"'
            elif is_deleting(claim):
                problem = f'persistentvolumeclaim "{one.name}" is being deleted'
            elif one.ephemeral and not is_claim_of_pod(claim, pod):
                problem = (
                    f'PVC "{namespace}/{one.name}" was not created for pod "{namespace}/{pod_name}" (pod is not owner)'
                )
            else:
                found.in_use = found.in_use or self._is_in_use(claim, pod)
            if problem or claim is None:
                return ClaimsOfPod(problem)
            if is_fully_bound(claim):
                found.volumes.append(self._volumes.get(("", claim["spec"]["volumeName"])))
            elif waits_for_consumer(self._classes.get(("", class_of(claim)))) and not claim["spec"].get("volumeName"):
                found.unbound.append(self._unbound(claim))
            else:
                immediate = True
        return ClaimsOfPod(_IMMEDIATE) if immediate else found

    def _is_in_use(self, claim: Object, pod: Object) -> bool:
        if "ReadWriteOncePod" not in (claim["spec"].get("accessModes") or ()):
            return False
        return any(
            uid_of(other) != uid_of(pod) and not is_finished(other) and self._has_node(other)
            for other in self._pods.index(by_claim).get(key_of(claim))
        )

    def _unbound(self, claim: Object) -> UnboundClaim:
        name = class_of(claim)
        # A volume that is reserved for the claim may be of any class.
        reserved = self._volumes.index(by_claim_reference).get(key_of(claim))
        free = self._volumes.index(by_free_class).get(name)
        return UnboundClaim(claim, [*reserved, *free], self._classes.get(("", name)))

    async def bind(self, claims: ClaimsOfPod, node: Object) -> float:
        """Begin to bind the claims that wait for the pod's node. Return the seconds until the next check.

        Raises ApiError: the scheduler must then decide again.
        """
        for one in claims.unbound:
            # A volume is chosen for each claim separately, from the volumes that exist now. Volumes may have been
            # deleted since the decision.
            claim = one.claim
            chosen = _match([self._unbound(claim)], node)
            if chosen is None or annotations_of(claim).get(SELECTED_NODE):
                continue
            volume = chosen[uid_of(claim)]
            if volume is None:
                annotations = {**annotations_of(claim), SELECTED_NODE: node["metadata"]["name"]}
                await self._write(CLAIMS, {**claim, "metadata": {**claim["metadata"], "annotations": annotations}})
                continue
            metadata = volume["metadata"]
            if volume["spec"].get("claimRef") is None:
                metadata = {**metadata, "annotations": {**annotations_of(volume), BOUND_BY_CONTROLLER: "yes"}}
            spec = {**volume["spec"], "claimRef": reference_to(claim)}
            await self._write(VOLUMES, {**volume, "metadata": metadata, "spec": spec})
        return _LOOK_AGAIN

    async def _write(self, resource: str, obj: Object) -> None:
        written = await self._client.update(resource, obj)
        cache = self._claims if resource == CLAIMS else self._volumes
        await cache.wait_for_write(written)


def _match(claims: list[UnboundClaim], node: Object) -> dict[str, Object | None] | None:
    """Return the volume of each claim, by uid; None if any claim cannot get a volume.

    A claim whose volume must be provisioned has the value None.
    """
    chosen: dict[str, Object | None] = {}
    taken: set[str] = set()
    for one in claims:
        selected = annotations_of(one.claim).get(SELECTED_NODE)
        if selected:
            # The claim's volume is already being provisioned.
            if selected != node["metadata"]["name"]:
                return None
            chosen[uid_of(one.claim)] = None
            continue
        volume = find_match(one.claim, one.volumes, node=node, excluded=taken)
        if volume is not None:
            taken.add(volume["metadata"]["name"])
        elif not _may_provision(one.storage_class, node):
            return None
        chosen[uid_of(one.claim)] = volume
    return chosen


def _may_provision(storage_class: Object | None, node: Object) -> bool:
    """Return True when volumes of the class can be provisioned for the node (`checkVolumeProvisions`)."""
    if storage_class is None or not can_provision(storage_class):
        return False
    terms = storage_class.get("allowedTopologies") or ()
    labels = node["metadata"].get("labels") or {}
    return not terms or any(
        all(labels.get(one.get("key")) in (one.get("values") or ()) for one in term.get("matchLabelExpressions") or ())
        for term in terms
    )
