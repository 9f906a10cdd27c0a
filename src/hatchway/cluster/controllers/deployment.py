"""Rolls out, rolls back and scales Deployments (kube-controller-manager's `deployment/`).

`rollout.py` computes the sizes and `deploymentstatus.py` the status; this file reads and writes objects.
"""

from __future__ import annotations

from functools import partial

from hatchway.cluster.controllers import deploymentstatus, rollout
from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import adopters, by_controller, claimable
from hatchway.cluster.controllers.objectfields import (
    annotations_of,
    clone,
    controlled_by,
    controller_of,
    controller_reference,
    is_deleting,
    uid_of,
)
from hatchway.cluster.controllers.ownership import claim
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_finished, key_of
from hatchway.kube.selectors import selector_is_empty

RESOURCE = "deployments.apps"
SETS = "replicasets.apps"


class DeploymentController(Controller):
    """Creates and resizes the ReplicaSets of every Deployment, and writes the Deployments' statuses."""

    name = "deployment-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.deployments = context.cache(RESOURCE)
        self.sets = context.cache(SETS)
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        self.deployments.subscribe(self.enqueue_changed)
        self.sets.subscribe(self._set_changed)
        self.pods.subscribe(self._pod_changed)

    def _set_changed(self, _kind: str, found: Object, before: Object | None) -> None:
        self.enqueue_owners("Deployment", found, before, partial(adopters, self.deployments))

    def _pod_changed(self, kind: str, pod: Object, _before: Object | None) -> None:
        """Queue the Deployment of a pod that has ended. The strategy Recreate waits for the end of the last old pod."""
        ref = controller_of(pod)
        if ref is None or ref.get("kind") != "ReplicaSet" or not (kind == "DELETED" or is_finished(pod)):
            return
        found = self.sets.get((pod["metadata"]["namespace"], ref["name"]))
        if found is not None:
            self._set_changed("MODIFIED", found, None)

    async def reconcile(self, key: Key) -> float | None:
        """Perform the next actions for the Deployment `key`.

        Return the seconds until the next check of the deadline or of minReadySeconds, or None.
        """
        deployment = self.deployments.get(key)
        if deployment is None:
            return None
        selector = deployment["spec"].get("selector")
        if selector_is_empty(selector):
            self.events.event(
                deployment,
                "Warning",
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            return None
        candidates = claimable(self.sets, deployment, selector)
        found = await claim(self.client, deployment, RESOURCE, selector, candidates, self.sets)
        # Although `claim` may have read a newer Deployment, this run uses one consistent copy. It changes only the
        # copy's status and metadata.
        copied = {**deployment, "metadata": {**deployment["metadata"]}, "status": clone(deployment.get("status") or {})}
        run = _DeploymentRun(self, copied, found)
        if is_deleting(deployment):
            run.find_sets()
        else:
            await run.work()
        return await run.write_status()


class _DeploymentRun:
    """One reconcile of one Deployment: a copy of the Deployment, its current ReplicaSets, and its new status."""

    def __init__(self, controller: DeploymentController, deployment: Object, sets: list[Object]) -> None:
        self.controller = controller
        self.client = controller.client
        self.deployment = deployment
        self.sets = {found["metadata"]["name"]: found for found in sets}
        self.new: Object | None = None
        self.old: list[Object] = []  # oldest first
        # The status before this run. The run adds only conditions to it.
        self.before: Object = deployment["status"]
        self.moment = controller.context.now()
        self.problem: ApiError | None = None
        self.in_rollout = False

    # --- reading -----------------------------------------------------------------------------------------------

    def find_sets(self) -> None:
        """Find the new ReplicaSet (the oldest with the Deployment's template) and the old ReplicaSets."""
        ordered = sorted(self.sets.values(), key=_age)
        template = self.deployment["spec"]["template"]
        self.new = next((s for s in ordered if rollout.same_template(s["spec"]["template"], template)), None)
        self.old = [found for found in ordered if found is not self.new]

    @property
    def all_sets(self) -> list[Object]:
        return list(self.sets.values())

    # --- deciding ----------------------------------------------------------------------------------------------

    async def work(self) -> None:
        self._note_pause()
        self.find_sets()
        try:
            if self.deployment["spec"].get("paused") or self._was_scaled():
                await self._bring_new_up_to_date()
                await self._scale()
                if self.deployment["spec"].get("paused"):
                    await self._delete_old()
            elif rollout.uses_rolling_update(self.deployment):
                self.in_rollout = True
                await self._roll()
            else:
                self.in_rollout = True
                await self._recreate()
        except ApiError as error:
            # `write_status` records the changes that succeeded, and then raises this error.
            self.problem = error

    async def _roll(self) -> None:
        new = await self._ensure_new()
        desired = rollout.replicas_of(self.deployment)
        size = rollout.replicas_of(new)
        if size != desired:
            goal = desired if size > desired else rollout.next_size_of_new_set(self.deployment, self.all_sets, size)
            if await self._resize(new, goal):
                return
        sizes = rollout.next_sizes_of_old_sets(self.deployment, self.new, self.old)
        for name, goal in sizes.items():
            await self._resize(self.sets[name], goal)
        if not sizes and deploymentstatus.is_complete(self.deployment, self.before):
            await self._delete_old()

    async def _recreate(self) -> None:
        scaled = False
        for found in self.old:
            scaled |= await self._resize(found, 0) if rollout.replicas_of(found) else False
        if scaled or self._old_pods_run():
            if self.new is not None:
                await self._bring_new_up_to_date()
            return
        new = await self._ensure_new()
        if not await self._resize(new, rollout.replicas_of(self.deployment)) and deploymentstatus.is_complete(
            self.deployment, self.before
        ):
            await self._delete_old()

    def _old_pods_run(self) -> bool:
        pods = self.controller.pods.index(by_controller).get(*(uid_of(found) for found in self.old))
        return any(not is_finished(pod) for pod in pods)

    def _was_scaled(self) -> bool:
        desired = str(rollout.replicas_of(self.deployment))
        active = [found for found in self.all_sets if rollout.replicas_of(found)]
        if len(active) > 1 and not rollout.uses_rolling_update(self.deployment):
            # `_recreate` sets the right number of replicas, so the strategy Recreate needs no proportional scaling.
            return False
        return any(annotations_of(found).get(rollout.DESIRED_REPLICAS, desired) != desired for found in active)

    async def _scale(self) -> None:
        """Resize the ReplicaSets for a new spec.replicas, without advancing the rollout."""
        desired = rollout.replicas_of(self.deployment)
        active = [found for found in self.all_sets if rollout.replicas_of(found)]
        if len(active) <= 1:
            only = active[0] if active else self.new or (self.old[-1] if self.old else None)
            if only is not None:
                await self._resize(only, desired)
            return
        new = self.new
        if (
            new is not None
            and rollout.replicas_of(new) == desired
            and rollout.annotation_number(new, rollout.DESIRED_REPLICAS) == desired
            and rollout.status_count([new], "availableReplicas") == desired
        ):
            for found in [found for found in self.old if rollout.replicas_of(found)]:
                await self._resize(found, 0)
        elif rollout.uses_rolling_update(self.deployment):
            active.sort(key=_age, reverse=True)
            for name, size in rollout.proportional_sizes(self.deployment, active).items():
                await self._resize(self.sets[name], size)

    async def _delete_old(self) -> None:
        for found in rollout.sets_to_delete(self.deployment, self.old):
            await delete_unless_gone(self.client, SETS, found)
            await self.controller.sets.wait_for_deletion(found)

    # --- writing -----------------------------------------------------------------------------------------------

    def _replace_set(self, found: Object) -> Object:
        self.sets[found["metadata"]["name"]] = found
        self.find_sets()
        return found

    async def _resize(self, found: Object, size: int) -> bool:
        """Resize a ReplicaSet, and record the Deployment's size in its annotations. Return True if its size changed."""
        before = rollout.replicas_of(found)
        annotations = {**annotations_of(found), **rollout.size_annotations(self.deployment)}
        if before == size and annotations == annotations_of(found):
            return False
        changed = {
            **found,
            "metadata": {**found["metadata"], "annotations": annotations},
            "spec": {**found["spec"], "replicas": size},
        }
        written = await self.client.update(SETS, changed)
        await self.controller.sets.wait_for_write(written)
        self._replace_set(written)
        if before != size:
            self._report_scaled(written, before, size)
        return before != size

    def _report_scaled(self, found: Object, before: int, size: int) -> None:
        direction = "up" if size > before else "down"
        name = found["metadata"]["name"]
        message = f"Scaled {direction} replica set {name} from {before} to {size}"
        self.controller.events.event(self.deployment, "Normal", "ScalingReplicaSet", message)

    async def _bring_new_up_to_date(self) -> None:
        """Update the revision and annotations of the new ReplicaSet, if it exists already."""
        new = self.new
        if new is None:
            return
        revision = rollout.next_revision(self.old)
        annotations = rollout.annotations_of_new_set(self.deployment, annotations_of(new), revision)
        seconds = self.deployment["spec"].get("minReadySeconds", 0)
        if annotations != annotations_of(new) or seconds != new["spec"].get("minReadySeconds", 0):
            changed = {
                **new,
                "metadata": {**new["metadata"], "annotations": annotations},
                "spec": {**new["spec"], "minReadySeconds": seconds},
            }
            written = await self.client.update(SETS, changed)
            await self.controller.sets.wait_for_write(written)
            new = self._replace_set(written)
        await self._note_revision(new)
        if deploymentstatus.find_condition(self.before, "Progressing") is None:
            self._set_progressing("True", "FoundNewReplicaSet", f'Found new replica set "{new["metadata"]["name"]}"')

    async def _ensure_new(self) -> Object:
        """Return the ReplicaSet with the Deployment's template; create it when there is none. Raises ApiError."""
        await self._bring_new_up_to_date()
        return self.new or await self._create_new()

    async def _create_new(self) -> Object:
        deployment = self.deployment
        template = deployment["spec"]["template"]
        collisions = self.before.get("collisionCount")
        label = rollout.template_hash(template, collisions)
        selector = clone(deployment["spec"]["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), rollout.HASH_LABEL: label}
        hashed = rollout.with_hash(template, label)
        size = rollout.next_size_of_new_set(deployment, self.all_sets, 0)
        revision = rollout.next_revision(self.old)
        namespace = deployment["metadata"]["namespace"]
        wanted: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{deployment['metadata']['name']}-{label}",
                "namespace": namespace,
                "labels": dict(hashed["metadata"]["labels"]),
                "annotations": {
                    **rollout.annotations_of_new_set(deployment, {}, revision),
                    **rollout.size_annotations(deployment),
                },
                "ownerReferences": [controller_reference(deployment)],
            },
            "spec": {"replicas": size, "selector": selector, "template": hashed},
        }
        if deployment["spec"].get("minReadySeconds"):
            wanted["spec"]["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
        name = wanted["metadata"]["name"]
        try:
            made = await self.client.create(SETS, wanted, namespace)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                made = await self._resolve_collision(name, error)
            else:
                message = f'Failed to create new replica set "{name}": {error.message}'
                self._set_progressing("False", "ReplicaSetCreateError", message)
                raise
        else:
            self._set_progressing("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
            if size:
                self._report_scaled(made, 0, size)
        await self.controller.sets.wait_for_write(made)
        self._replace_set(made)
        await self._note_revision(made)
        return made

    async def _resolve_collision(self, name: str, error: ApiError) -> Object:
        """Use the ReplicaSet that has this name if its owner and template are right; else change the hash."""
        found = await self.client.get(SETS, name, self.deployment["metadata"]["namespace"])
        if controlled_by(found, self.deployment) and rollout.same_template(
            found["spec"]["template"], self.deployment["spec"]["template"]
        ):
            return found
        self.before["collisionCount"] = self.before.get("collisionCount", 0) + 1
        raise error

    async def _note_revision(self, new: Object) -> None:
        revision = annotations_of(new).get(rollout.REVISION, "")
        if annotations_of(self.deployment).get(rollout.REVISION, "") == revision:
            return
        namespace, name = key_of(self.deployment)
        patch = {
            "metadata": {"uid": uid_of(self.deployment), "annotations": {rollout.REVISION: revision}},
        }
        written = await self.client.patch(RESOURCE, name, patch, namespace)
        await self.controller.deployments.wait_for_write(written)
        # If the spec has changed meanwhile, another reconcile is queued. The present reconcile continues with its copy.
        self.deployment["metadata"] = {
            **clone(written["metadata"]),
            "generation": self.deployment["metadata"].get("generation", 0),
        }

    # --- status ------------------------------------------------------------------------------------------------

    def _set_progressing(self, status: str, reason: str, message: str) -> None:
        if not deploymentstatus.has_deadline(self.deployment):
            return
        deploymentstatus.put_condition(
            self.before, deploymentstatus.condition("Progressing", status, reason, message), self.moment
        )

    def _note_pause(self) -> None:
        found = deploymentstatus.find_condition(self.before, "Progressing")
        if found is not None and found.get("reason") == "ProgressDeadlineExceeded":
            return
        noted = found is not None and found.get("reason") == "DeploymentPaused"
        if self.deployment["spec"].get("paused") and not noted:
            self._set_progressing("Unknown", "DeploymentPaused", "Deployment is paused")
        elif not self.deployment["spec"].get("paused") and noted:
            self._set_progressing("Unknown", "DeploymentResumed", "Deployment is resumed")

    async def write_status(self) -> float | None:
        """Write the status if it has changed. Return the seconds until the deadline, or None."""
        deployment = self.deployment
        current = self.controller.deployments.get(key_of(deployment))
        if current is None or uid_of(current) != uid_of(deployment):
            return None
        status = deploymentstatus.calculate(deployment, self.all_sets, self.new, self.moment)
        if self.in_rollout:
            deploymentstatus.update_progress(deployment, status, self.all_sets, self.new, self.moment)
        if status != {"terminatingReplicas": 0, **(current.get("status") or {})}:
            try:
                written = await self.client.update(RESOURCE, {**current, "status": status}, subresource="status")
            except ApiError as error:
                if error.code == 404:
                    return None
                raise
            await self.controller.deployments.wait_for_write(written)
        if self.problem is not None:
            raise self.problem
        if deployment["spec"].get("paused"):
            return None
        left = deploymentstatus.deadline_left(deployment, status, self.moment)
        return left + 1.0 if left else None


def _age(found: Object) -> tuple[str, str]:
    return found["metadata"].get("creationTimestamp", ""), found["metadata"]["name"]
