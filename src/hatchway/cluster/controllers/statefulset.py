"""Creates, updates and deletes the pods of StatefulSets (kube-controller-manager's `statefulset/`).

`statefulplan.py` decides, `revisions.py` stores the pod templates, and this file reads and writes objects.
"""

from __future__ import annotations

import asyncio
from functools import partial

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import adopters, by_controller, claimable
from hatchway.cluster.controllers.objectfields import is_deleting, labels_of, pod_phase, uid_of
from hatchway.cluster.controllers.ownership import claim
from hatchway.cluster.controllers.revisions import HASH, POD_HASH, RevisionHistory
from hatchway.cluster.controllers.revisions import RESOURCE as REVISIONS
from hatchway.cluster.controllers.statefulclaims import StatefulClaims, is_surplus
from hatchway.cluster.controllers.statefulplan import (
    StatefulPlan,
    StatefulView,
    ordinal_of,
    plan_stateful,
    stateful_status,
)
from hatchway.cluster.controllers.writes import is_namespace_terminating
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of
from hatchway.kube.selectors import selector_is_empty
from hatchway.kube.volumeclaims import by_claim

RESOURCE = "statefulsets.apps"
# Number of pods of a parallel StatefulSet that are created or deleted at the same time.
_AT_ONCE = 50


class StatefulSetController(Controller):
    """Creates, deletes and updates the pods of StatefulSets in the order of their ordinals, and writes the statuses."""

    name = "statefulset-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.sets = context.cache(RESOURCE)
        self.pods = context.cache("pods")
        revisions = context.cache(REVISIONS)
        self.history = RevisionHistory(context.client, revisions, RESOURCE, HASH)
        self.events = context.recorder(self.name)
        self.storage = StatefulClaims(context, self.events)
        self.storage.claims.subscribe(self._claim_changed)
        self.sets.subscribe(self.enqueue_changed)
        self.pods.subscribe(self._owned_changed)
        revisions.subscribe(self._owned_changed)

    def _owned_changed(self, _kind: str, owned: Object, before: Object | None) -> None:
        self.enqueue_owners("StatefulSet", owned, before, partial(adopters, self.sets))

    def _claim_changed(self, kind: str, claim: Object, _before: Object | None) -> None:
        """Queue the StatefulSet of a deleted claim, because its pod may wait for the end of the deletion."""
        if kind == "DELETED":
            for pod in self.pods.index(by_claim).get(key_of(claim)):
                self._owned_changed("", pod, None)

    async def reconcile(self, key: Key) -> float | None:
        """Perform the next actions for the StatefulSet `key`. Return the seconds until a pod is available, or None."""
        owner = self.sets.get(key)
        if owner is None or selector_is_empty(owner["spec"].get("selector")):
            return None
        selector, name = owner["spec"]["selector"], owner["metadata"]["name"]
        candidates = [pod for pod in claimable(self.pods, owner, selector) if ordinal_of(name, pod) is not None]
        pods = await claim(self.client, owner, RESOURCE, selector, candidates, self.pods)
        revisions = await self.history.revisions(owner)
        update, collisions = await self.history.current(owner, revisions)
        wanted = (owner.get("status") or {}).get("currentRevision")
        current = next((one for one in revisions if one["metadata"]["name"] == wanted), update)
        view = StatefulView(owner, pods, current, update, self.context.now())
        plan = plan_stateful(view)
        problem = None
        try:
            await self._carry_out(owner, plan)
        except ApiError as error:
            problem = error
        await self._write_status(view, collisions)
        if problem is not None:
            raise problem
        live = {one["metadata"]["name"] for one in (current, update)}
        live |= {labels_of(pod).get(POD_HASH, "") for pod in self._owned(owner)}
        await self.history.truncate(owner, revisions, live)
        return plan.again

    def _owned(self, owner: Object) -> list[Object]:
        return self.pods.index(by_controller).get(uid_of(owner))

    # --- pods ----------------------------------------------------------------------------------------------------

    async def _carry_out(self, owner: Object, plan: StatefulPlan) -> None:
        namespace, name = key_of(owner)
        if owner["spec"].get("volumeClaimTemplates") and not is_deleting(owner):
            pods = self._owned(owner)
            await self.storage.keep_owners(owner, pods)
            for pod in pods:
                ordinal = ordinal_of(name, pod)
                waits = pod_phase(pod) == "Pending" and not is_deleting(pod)
                if ordinal is not None and waits and not is_surplus(owner, ordinal):
                    await self.storage.ensure(owner, pod, ordinal)
        for pod in plan.recreated:
            ended = pod["metadata"]["name"]
            state, reason = ("failed", "RecreatingFailedPod")
            if pod_phase(pod) == "Succeeded":
                state, reason = ("terminated", "RecreatingTerminatedPod")
            text = f"StatefulSet {namespace}/{name} is recreating {state} Pod {ended}"
            self.events.event(owner, "Warning", reason, text)
        for work, pods in ((self._fix, plan.fix), (self._delete, plan.delete), (self._create, plan.create)):
            for start in range(0, len(pods), _AT_ONCE):
                some = pods[start : start + _AT_ONCE]
                results = await asyncio.gather(*(work(owner, pod) for pod in some), return_exceptions=True)
                for failure in results:
                    if isinstance(failure, BaseException):
                        raise failure

    async def _create(self, owner: Object, pod: Object) -> None:
        try:
            await self.storage.ensure(owner, pod, ordinal_of(owner["metadata"]["name"], pod) or 0)
            made = await self.client.create("pods", pod, owner["metadata"]["namespace"])
        except ApiError as error:
            if is_namespace_terminating(error):
                return
            if error.code != 409:
                self._report(owner, "create", pod, error)
            raise
        self._report(owner, "create", pod)
        await self.pods.wait_for_write(made)

    async def _delete(self, owner: Object, pod: Object) -> None:
        namespace, name = key_of(pod)
        try:
            await self.client.delete("pods", name, namespace, uid=uid_of(pod))
        except ApiError as error:
            if error.code not in (404, 409):
                self._report(owner, "delete", pod, error)
                raise
        else:
            self._report(owner, "delete", pod)
        await self.pods.wait_for_deletion(pod)

    async def _fix(self, owner: Object, pod: Object) -> None:
        try:
            written = await self.client.update("pods", pod)
        except ApiError as error:
            if error.code == 404:
                return
            self._report(owner, "update", pod, error)
            raise
        self._report(owner, "update", pod)
        await self.pods.wait_for_write(written)

    def _report(self, owner: Object, verb: str, pod: Object, error: ApiError | None = None) -> None:
        about = f"{verb} Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']}"
        if error is None:
            self.events.event(owner, "Normal", f"Successful{verb.title()}", f"{about} successful")
        else:
            self.events.event(owner, "Warning", f"Failed{verb.title()}", f"{about} failed error: {error.message}")

    # --- status --------------------------------------------------------------------------------------------------

    async def _write_status(self, view: StatefulView, collisions: int) -> None:
        owner = self.sets.get(key_of(view.owner))
        if owner is None or uid_of(owner) != uid_of(view.owner):
            return
        name = owner["metadata"]["name"]
        pods = [pod for pod in self._owned(owner) if ordinal_of(name, pod) is not None]
        after = StatefulView(view.owner, pods, view.current, view.update, self.context.now())
        status = stateful_status(after, collisions)
        if status == (owner.get("status") or {}):
            return
        try:
            written = await self.client.update(RESOURCE, {**owner, "status": status}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self.sets.wait_for_write(written)
