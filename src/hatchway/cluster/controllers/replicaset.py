"""Keeps as many pods as each ReplicaSet asks for (kube-controller-manager's `replicaset/replica_set.go`)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from hatchway.cluster.controllers.base import Context, Controller
from hatchway.cluster.controllers.objects import (
    Key,
    annotations_of,
    available_in,
    clone,
    controller_of,
    controller_reference,
    is_active,
    is_deleting,
    is_finished,
    is_ready,
    key_of,
    labels_of,
    parse_time,
    pod_phase,
    selector_is_empty,
    selector_matches,
    set_condition,
    subset_matches,
    uid_of,
)
from hatchway.cluster.controllers.ownership import claim
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.numerals import parse_int

RESOURCE = "replicasets.apps"
# At most this many pods are made or deleted in one go (BurstReplicas).
BURST = 500
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class ReplicaSetController(Controller):
    name = "replicaset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = context.cache(RESOURCE)
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        self.sets.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._pod_changed)

    def _pod_changed(self, _kind: str, pod: Object, before: Object | None) -> None:
        for seen in (pod, before):
            if seen is None:
                continue
            ref = controller_of(seen)
            if ref is not None:
                if ref.get("kind") == "ReplicaSet":
                    self.queue.add((seen["metadata"]["namespace"], ref["name"]))
            elif not is_deleting(seen):
                self._queue_adopters(seen)

    def _queue_adopters(self, pod: Object) -> None:
        for replica_set in self.sets.in_namespace(pod["metadata"]["namespace"]):
            selector = replica_set["spec"].get("selector")
            if not selector_is_empty(selector) and selector_matches(selector, labels_of(pod)):
                self.enqueue(replica_set)

    async def reconcile(self, key: Key) -> float | None:
        replica_set = self.sets.get(key)
        if replica_set is None or selector_is_empty(replica_set["spec"].get("selector")):
            return None
        # Finished pods are not counted, and not released either: they keep telling what happened.
        candidates = [pod for pod in self.pods.in_namespace(key[0]) if not is_finished(pod)]
        selector = replica_set["spec"]["selector"]
        claimed = await claim(self.client, replica_set, RESOURCE, selector, candidates, self.pods)
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
            await self.sets.shows(written)
        if problem is not None:
            raise problem
        return again

    async def _create(self, replica_set: Object, count: int) -> None:
        """Make pods in batches of 1, 2, 4 ...: when all are refused, few requests have been wasted."""
        batch = 1
        while count > 0:
            batch = min(batch, count)
            results = await asyncio.gather(
                *(self._create_one(replica_set) for _ in range(batch)), return_exceptions=True
            )
            made = [found for found in results if isinstance(found, dict)]
            for pod in made:
                self.events.event(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
            for pod in made:
                await self.pods.shows(pod)
            for failure in results:
                if isinstance(failure, BaseException):
                    if isinstance(failure, ApiError):
                        if _namespace_terminates(failure):
                            return
                        self.events.event(replica_set, "Warning", "FailedCreate", f"Error creating: {failure.message}")
                    raise failure
            count -= batch
            batch *= 2

    async def _create_one(self, replica_set: Object) -> Object:
        template = replica_set["spec"]["template"]
        metadata: dict[str, Any] = {
            "generateName": _pod_prefix(replica_set["metadata"]["name"]),
            "ownerReferences": [controller_reference(replica_set)],
        }
        given = template.get("metadata") or {}
        for field in ("labels", "annotations", "finalizers"):
            if given.get(field):
                metadata[field] = clone(given[field])
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": clone(template["spec"])}
        return await self.client.create("pods", pod, replica_set["metadata"]["namespace"])

    async def _delete(self, replica_set: Object, pods: list[Object], count: int, related: list[Object]) -> None:
        chosen = sorted(pods, key=_deletion_order(related, self.context.now()))[:count]
        results = await asyncio.gather(*(self._delete_one(replica_set, pod) for pod in chosen), return_exceptions=True)
        for failure in results:
            if isinstance(failure, BaseException):
                raise failure

    async def _delete_one(self, replica_set: Object, pod: Object) -> None:
        namespace, name = key_of(pod)
        try:
            await self.client.delete("pods", name, namespace, uid=uid_of(pod))
        except ApiError as error:
            # 409: another pod has the name now, so this one is gone as well.
            if error.code not in (404, 409):
                self.events.event(replica_set, "Warning", "FailedDelete", f"Error deleting: {error.message}")
                raise
        else:
            self.events.event(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
        await self.pods.shows_deletion(pod)

    async def _write_status(
        self, replica_set: Object, selector: Object, key: Key, reason: str, problem: ApiError | None
    ) -> tuple[Object | None, float | None]:
        current = self.sets.get(key)
        if current is None or uid_of(current) != uid_of(replica_set):
            return None, None
        owned = [
            pod
            for pod in self.pods.in_namespace(key[0])
            if (controller_of(pod) or {}).get("uid") == uid_of(replica_set)
            and not is_finished(pod)
            and selector_matches(selector, labels_of(pod))
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
        # As the server would write it: counts of zero are left out, except those that are always shown.
        shown = ("replicas", "terminatingReplicas", "observedGeneration")
        status = {field: value for field, value in status.items() if value or field in shown}
        if conditions:
            status["conditions"] = conditions
        waiting = [seconds for seconds in until_available if seconds]
        again = min(waiting) + 0.1 if waiting else None
        if {"terminatingReplicas": 0, **old} == status:
            return None, again
        updated = {**current, "status": status}
        try:
            return await self.client.update(RESOURCE, updated, subresource="status"), again
        except ApiError as error:
            if error.code == 404:
                return None, None
            raise


def _pod_prefix(name: str) -> str:
    return name + "-" if len(name) + 1 <= 58 else name[:57] + "-"


def _namespace_terminates(error: ApiError) -> bool:
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _deletion_order(related: list[Object], moment: datetime) -> Any:
    """A sort key: which pods go first when there are too many (`ActivePodsWithRanks` of controller_utils.go)."""
    per_node: dict[str, int] = {}
    for pod in related:
        if is_active(pod):
            node = pod["spec"].get("nodeName", "")
            per_node[node] = per_node.get(node, 0) + 1
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}

    def key(pod: Object) -> tuple[Any, ...]:
        ready_since = next(
            (
                parse_time(c.get("lastTransitionTime"))
                for c in (pod.get("status") or {}).get("conditions") or ()
                if c.get("type") == "Ready" and c.get("status") == "True"
            ),
            None,
        )
        statuses = (pod.get("status") or {}).get("containerStatuses") or ()
        restarts = max((status.get("restartCount", 0) for status in statuses), default=0)
        created = parse_time(pod["metadata"].get("creationTimestamp")) or moment
        node = pod["spec"].get("nodeName", "")
        return (
            bool(node),
            phases.get(pod_phase(pod), 0),
            is_ready(pod),
            _deletion_cost(pod),
            -per_node.get(node, 0),
            -ready_since.timestamp() if ready_since else 0.0,
            -restarts,
            -created.timestamp(),
        )

    return key


def _deletion_cost(pod: Object) -> int:
    return parse_int(annotations_of(pod).get(DELETION_COST)) or 0
