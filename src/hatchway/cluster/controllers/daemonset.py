"""Keeps one pod of each DaemonSet on every node that it selects (kube-controller-manager's `daemon/`).

`daemonplan.py` decides, `revisions.py` stores the pod templates, and this file reads and writes objects. The scheduler
binds the pods; the node affinity of each pod allows only one node.
"""

from __future__ import annotations

from functools import partial

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.daemonplan import (
    DaemonPlan,
    DaemonView,
    daemon_status,
    has_failed,
    new_daemon_pod,
    plan_daemon,
    target_node,
)
from hatchway.cluster.controllers.indexes import adopters, by_controller, claimable
from hatchway.cluster.controllers.objectfields import is_deleting, labels_of, uid_of
from hatchway.cluster.controllers.ownership import claim
from hatchway.cluster.controllers.podcreation import create_pods, delete_pods
from hatchway.cluster.controllers.revisions import POD_HASH, RevisionHistory
from hatchway.cluster.controllers.revisions import RESOURCE as REVISIONS
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of
from hatchway.kube.selectors import selector_is_empty

RESOURCE = "daemonsets.apps"
# If the pods of a node end soon after their start, each is replaced after a wait, which doubles each time. The first
# and the longest wait, in seconds.
_FIRST_BACKOFF, _LAST_BACKOFF = 1.0, 900.0


class DaemonSetController(Controller):
    """Creates and deletes the pods of DaemonSets, one for each node, and writes the DaemonSets' statuses."""

    name = "daemonset-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.sets = context.cache(RESOURCE)
        self.pods = context.cache("pods")
        self.nodes = context.cache("nodes")
        revisions = context.cache(REVISIONS)
        self.history = RevisionHistory(context.client, revisions, RESOURCE, POD_HASH)
        self.events = context.recorder(self.name)
        # (uid of the DaemonSet, node) → (time until which an ended pod is kept, length of the wait in seconds).
        self._backoffs: dict[tuple[str, str], tuple[float, float]] = {}
        self.sets.subscribe(self._set_changed)
        self.pods.subscribe(self._owned_changed)
        revisions.subscribe(self._owned_changed)
        self.nodes.subscribe(self._node_changed)

    def _set_changed(self, kind: str, owner: Object, _before: Object | None) -> None:
        self.enqueue(owner)
        if kind == "DELETED":
            gone = uid_of(owner)
            self._backoffs = {key: value for key, value in self._backoffs.items() if key[0] != gone}

    def _owned_changed(self, _kind: str, owned: Object, before: Object | None) -> None:
        self.enqueue_owners("DaemonSet", owned, before, partial(adopters, self.sets))

    def _node_changed(self, kind: str, node: Object, before: Object | None) -> None:
        if kind != "DELETED" and before is not None and _facts(node) == _facts(before):
            # Only other fields have changed, such as the times of heartbeats.
            return
        for owner in self.sets:
            self.enqueue(owner)

    async def reconcile(self, key: Key) -> float | None:
        """Perform the next actions for the DaemonSet `key`. Return the seconds until the next reconcile, or None."""
        owner = self.sets.get(key)
        if owner is None or selector_is_empty(owner["spec"].get("selector")):
            return None
        selector = owner["spec"]["selector"]
        pods = await claim(self.client, owner, RESOURCE, selector, claimable(self.pods, owner, selector), self.pods)
        revisions = await self.history.revisions(owner)
        revision, collisions = await self.history.current(owner, revisions)
        label = labels_of(revision).get(POD_HASH, "")
        view = DaemonView(owner, self.nodes, pods, label, self.context.now())
        plan = plan_daemon(view)
        self._delay_ended(owner, plan)
        problem = None
        try:
            await self._carry_out(owner, view, plan)
        except ApiError as error:
            problem = error
        await self._write_status(view, collisions)
        if problem is not None:
            raise problem
        live = {label, *(labels_of(pod).get(POD_HASH, "") for pod in self._owned(owner))}
        await self.history.truncate(owner, revisions, live)
        return plan.again

    def _owned(self, owner: Object) -> list[Object]:
        return self.pods.index(by_controller).get(uid_of(owner))

    def _delay_ended(self, owner: Object, plan: DaemonPlan) -> None:
        """Keep pods that ended too soon until their back-off is over. Record an Event for each pod that is deleted."""
        now = self.context.now().timestamp()
        for pod in plan.ended:
            key = uid_of(owner), target_node(pod)
            due, wait = self._backoffs.get(key, (0.0, 0.0))
            if now < due:
                plan.delete = [one for one in plan.delete if one is not pod]
                left = due - now + 0.05
                plan.again = left if plan.again is None else min(plan.again, left)
                continue
            # When no pod has ended on this node for a while, the wait starts at its first value again.
            wait = min(wait * 2, _LAST_BACKOFF) if now < due + wait * 2 and wait else _FIRST_BACKOFF
            self._backoffs[key] = now + wait, wait
            namespace, name = key_of(pod)
            where = f"daemon pod {namespace}/{name} on node {key[1]}"
            if has_failed(pod):
                text = f"Found failed {where}, will try to kill it"
                self.events.event(owner, "Warning", "FailedDaemonPod", text)
            else:
                text = f"Found succeeded {where}, will try to delete it"
                self.events.event(owner, "Normal", "SucceededDaemonPod", text)

    async def _carry_out(self, owner: Object, view: DaemonView, plan: DaemonPlan) -> None:
        await delete_pods(self.client, self.pods, self.events, owner, plan.delete)
        wanted = [new_daemon_pod(owner, view.spec, node, view.label) for node in plan.create]
        await create_pods(self.client, self.pods, self.events, owner, wanted)

    async def _write_status(self, view: DaemonView, collisions: int) -> None:
        owner = self.sets.get(key_of(view.owner))
        if owner is None or uid_of(owner) != uid_of(view.owner):
            return
        after = DaemonView(view.owner, self.nodes, self._owned(owner), view.label, self.context.now())
        status = daemon_status(after, collisions)
        if status == (owner.get("status") or {}):
            return
        try:
            written = await self.client.update(RESOURCE, {**owner, "status": status}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self.sets.wait_for_write(written)


def _facts(node: Object) -> tuple[object, ...]:
    """Return the fields of a node that decide whether it gets pods."""
    return node["metadata"].get("labels"), node["spec"].get("taints"), is_deleting(node)
