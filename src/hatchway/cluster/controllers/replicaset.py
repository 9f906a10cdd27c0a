"""Keeps the number of pods that each ReplicaSet specifies (kube-controller-manager's `replicaset/replica_set.go`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import by_controller, claimable, selectors_for
from hatchway.cluster.controllers.objectfields import (
    available_in,
    controller_reference,
    is_active,
    is_deleting,
    labels_of,
    set_condition,
    uid_of,
)
from hatchway.cluster.controllers.ownership import claim
from hatchway.cluster.controllers.podcreation import create_pods, delete_pods, pod_prefix
from hatchway.cluster.controllers.podranks import deletion_order
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_finished, is_ready
from hatchway.kube.selectors import selector_is_empty, selector_matches, subset_matches

RESOURCE = "replicasets.apps"
# At most this many pods are created or deleted in one reconcile (BurstReplicas).
BURST = 500


class ReplicaSetController(Controller):
    """Creates and deletes pods until every ReplicaSet has the specified number, and writes its status."""

    name = "replicaset-controller"
    resource = RESOURCE
    kind = "ReplicaSet"
    # True if the status has the number of pods that are being deleted.
    counts_terminating = True

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.sets = context.cache(self.resource)
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        self.sets.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._pod_changed)

    def _pod_changed(self, _kind: str, pod: Object, before: Object | None) -> None:
        self.enqueue_owners(self.kind, pod, before, self._adopters)

    def _adopters(self, pod: Object) -> Iterator[Object]:
        for replica_set in self.possible_owners(pod):
            selector = self.selector_of(replica_set)
            if selector and not selector_is_empty(selector) and selector_matches(selector, labels_of(pod)):
                yield replica_set

    def possible_owners(self, pod: Object) -> list[Object]:
        """Return the ReplicaSets whose selector may select a pod."""
        return selectors_for(self.sets, pod)

    def selector_of(self, replica_set: Object) -> Object | None:
        """Return the label selector of a ReplicaSet."""
        found: Object | None = replica_set["spec"].get("selector")
        return found

    async def reconcile(self, key: Key) -> float | None:
        """Create or delete pods until the ReplicaSet `key` has its size.

        Returns the seconds until its next pod counts as available, or None.
        """
        replica_set = self.sets.get(key)
        selector = self.selector_of(replica_set) if replica_set is not None else None
        if replica_set is None or selector is None or selector_is_empty(selector):
            return None
        # Finished pods are neither counted nor released, so that users can still see why they ended.
        candidates = [pod for pod in claimable(self.pods, replica_set, selector) if not is_finished(pod)]
        claimed = await claim(self.client, replica_set, self.resource, selector, candidates, self.pods)
        pods = [pod for pod in claimed if is_active(pod)]
        problem: ApiError | None = None
        reason = ""
        if not is_deleting(replica_set):
            missing = replica_set["spec"].get("replicas", 1) - len(pods)
            try:
                if missing > 0:
                    reason = "FailedCreate"
                    await self._create(replica_set, min(missing, BURST))
                elif missing < 0:
                    reason = "FailedDelete"
                    await self._delete(replica_set, pods, min(-missing, BURST), claimed)
            except ApiError as error:
                problem = error
        written, again = await self._write_status(replica_set, selector, key, reason, problem)
        if written is not None:
            await self.sets.wait_for_write(written)
        if problem is not None:
            raise problem
        return again

    async def _create(self, replica_set: Object, count: int) -> None:
        pods = [_new_pod(replica_set) for _ in range(count)]
        await create_pods(self.client, self.pods, self.events, replica_set, pods)

    async def _delete(self, replica_set: Object, pods: list[Object], count: int, related: list[Object]) -> None:
        chosen = sorted(pods, key=deletion_order(related, self.context.now()))[:count]
        await delete_pods(self.client, self.pods, self.events, replica_set, chosen)

    async def _write_status(
        self, replica_set: Object, selector: Object, key: Key, reason: str, problem: ApiError | None
    ) -> tuple[Object | None, float | None]:
        """Write the status if it has changed.

        reason, problem: the reason and error of the condition ReplicaFailure; None removes the condition.

        Returns (the written ReplicaSet or None, the seconds until its next pod counts as available or None).
        """
        current = self.sets.get(key)
        if current is None or uid_of(current) != uid_of(replica_set):
            return None, None
        owned = [
            pod
            for pod in self.pods.index(by_controller).get(uid_of(replica_set))
            if not is_finished(pod) and selector_matches(selector, labels_of(pod))
        ]
        pods = [pod for pod in owned if is_active(pod)]
        moment = self.context.now()
        template_labels = (replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}
        until_available = [available_in(pod, replica_set["spec"].get("minReadySeconds", 0), moment) for pod in pods]
        old = current.get("status") or {}
        conditions = [c for c in old.get("conditions") or () if c["type"] != "ReplicaFailure" or problem is not None]
        if problem is not None:
            failure = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": problem.message}
            conditions = set_condition(conditions, failure, moment)
        status: Object = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(subset_matches(template_labels, labels_of(pod)) for pod in pods),
            "readyReplicas": sum(map(is_ready, pods)),
            "availableReplicas": sum(seconds == 0.0 for seconds in until_available),
            "terminatingReplicas": sum(map(is_deleting, owned)),
            "observedGeneration": replica_set["metadata"].get("generation", 0),
        }
        # Kubernetes omits counts of zero, except in the fields of `shown`.
        if not self.counts_terminating:
            del status["terminatingReplicas"]
        shown = ("replicas", "terminatingReplicas", "observedGeneration")
        status = {field: value for field, value in status.items() if value or field in shown}
        if conditions:
            status["conditions"] = conditions
        waiting = [seconds for seconds in until_available if seconds]
        again = min(waiting) + 0.1 if waiting else None
        if old == status or {"terminatingReplicas": 0, **old} == status:
            return None, again
        updated = {**current, "status": status}
        try:
            return await self.client.update(self.resource, updated, subresource="status"), again
        except ApiError as error:
            if error.code == 404:
                return None, None
            raise


def _new_pod(replica_set: Object) -> Object:
    template = replica_set["spec"]["template"]
    metadata: dict[str, Any] = {
        "generateName": pod_prefix(replica_set["metadata"]["name"]),
        "ownerReferences": [controller_reference(replica_set)],
    }
    given = template.get("metadata") or {}
    for field in ("labels", "annotations", "finalizers"):
        if given.get(field):
            metadata[field] = given[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
