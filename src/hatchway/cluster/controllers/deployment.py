"""Rolls Deployments out, back, up and down (kube-controller-manager's `deployment/`).

`rollout.py` holds the arithmetic and `deploymentstatus.py` the words; this file does the reading and writing.
"""

from __future__ import annotations

from hatchway.cluster.controllers import deploymentstatus as words
from hatchway.cluster.controllers import rollout
from hatchway.cluster.controllers.base import Context, Controller
from hatchway.cluster.controllers.objects import (
    Key,
    annotations_of,
    clone,
    controlled_by,
    controller_of,
    controller_reference,
    is_deleting,
    is_finished,
    key_of,
    labels_of,
    selector_is_empty,
    selector_matches,
    uid_of,
)
from hatchway.cluster.controllers.ownership import claim
from hatchway.errors import ApiError
from hatchway.kube.api import Object

RESOURCE = "deployments.apps"
SETS = "replicasets.apps"


class DeploymentController(Controller):
    name = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.deployments = context.cache(RESOURCE)
        self.sets = context.cache(SETS)
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        self.deployments.subscribe(self.enqueue_changed)
        self.sets.subscribe(self._set_changed)
        self.pods.subscribe(self._pod_changed)

    def _set_changed(self, _kind: str, found: Object, before: Object | None) -> None:
        for seen in (found, before):
            if seen is None:
                continue
            ref = controller_of(seen)
            namespace = seen["metadata"]["namespace"]
            if ref is not None:
                if ref.get("kind") == "Deployment":
                    self.queue.add((namespace, ref["name"]))
                continue
            for deployment in self.deployments.in_namespace(namespace):
                selector = deployment["spec"].get("selector")
                if not selector_is_empty(selector) and selector_matches(selector, labels_of(seen)):
                    self.enqueue(deployment)

    def _pod_changed(self, kind: str, pod: Object, _before: Object | None) -> None:
        """A Deployment that recreates waits until the last old pod has ended."""
        ref = controller_of(pod)
        if ref is None or ref.get("kind") != "ReplicaSet" or not (kind == "DELETED" or is_finished(pod)):
            return
        found = self.sets.get((pod["metadata"]["namespace"], ref["name"]))
        if found is not None:
            self._set_changed("MODIFIED", found, None)

    async def reconcile(self, key: Key) -> float | None:
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
        found = await claim(self.client, deployment, RESOURCE, selector, self.sets.in_namespace(key[0]), self.sets)
        # Adoption looks at the Deployment again but does not bring its news: work on one consistent copy.
        run = _Run(self, clone(deployment), found)
        if is_deleting(deployment):
            run.find_sets()
        else:
            await run.work()
        return await run.write_status()


class _Run:
    """One reconcile of one Deployment: its copy, its ReplicaSets as they are now, the status that builds up."""

    def __init__(self, controller: DeploymentController, deployment: Object, sets: list[Object]) -> None:
        self.controller = controller
        self.client = controller.client
        self.deployment = deployment
        self.sets = {found["metadata"]["name"]: found for found in sets}
        self.new: Object | None = None
        self.old: list[Object] = []  # oldest first
        # What it said before; only conditions are added to it on the way.
        self.before: Object = deployment.setdefault("status", {})
        self.moment = controller.context.now()
        self.problem: ApiError | None = None
        self.in_rollout = False

    # --- what there is -----------------------------------------------------------------------------------------

    def find_sets(self) -> None:
        """Tell the new ReplicaSet (the oldest one with the Deployment's template) from the old ones."""
        ordered = sorted(self.sets.values(), key=_age)
        template = self.deployment["spec"]["template"]
        self.new = next((s for s in ordered if rollout.same_template(s["spec"]["template"], template)), None)
        self.old = [found for found in ordered if found is not self.new]

    @property
    def everything(self) -> list[Object]:
        return list(self.sets.values())

    # --- what to do --------------------------------------------------------------------------------------------

    async def work(self) -> None:
        self._note_pause()
        self.find_sets()
        try:
            if self.deployment["spec"].get("paused") or self._was_scaled():
                await self._bring_new_up_to_date()
                await self._scale()
                if self.deployment["spec"].get("paused"):
                    await self._forget_old()
            elif rollout.is_rolling(self.deployment):
                self.in_rollout = True
                await self._roll()
            else:
                self.in_rollout = True
                await self._recreate()
        except ApiError as error:
            # The status tells what was reached; `write_status` raises it again.
            self.problem = error

    async def _roll(self) -> None:
        new = await self._ensure_new()
        desired = rollout.replicas_of(self.deployment)
        size = rollout.replicas_of(new)
        if size != desired:
            goal = desired if size > desired else rollout.new_set_size(self.deployment, self.everything, size)
            if await self._resize(new, goal):
                return
        sizes = rollout.old_set_sizes(self.deployment, self.new, self.old)
        for name, goal in sizes.items():
            await self._resize(self.sets[name], goal)
        if not sizes and words.is_complete(self.deployment, self.before):
            await self._forget_old()

    async def _recreate(self) -> None:
        scaled = False
        for found in self.old:
            scaled |= await self._resize(found, 0) if rollout.replicas_of(found) else False
        if scaled or self._old_pods_run():
            if self.new is not None:
                await self._bring_new_up_to_date()
            return
        new = await self._ensure_new()
        if not await self._resize(new, rollout.replicas_of(self.deployment)) and words.is_complete(
            self.deployment, self.before
        ):
            await self._forget_old()

    def _old_pods_run(self) -> bool:
        old = {uid_of(found) for found in self.old}
        pods = self.controller.pods.in_namespace(self.deployment["metadata"]["namespace"])
        return any((controller_of(pod) or {}).get("uid") in old and not is_finished(pod) for pod in pods)

    def _was_scaled(self) -> bool:
        desired = str(rollout.replicas_of(self.deployment))
        active = [found for found in self.everything if rollout.replicas_of(found)]
        if len(active) > 1 and not rollout.is_rolling(self.deployment):
            # Nothing to scale in proportion: to recreate ends with the right number anyway.
            return False
        return any(annotations_of(found).get(rollout.DESIRED_REPLICAS, desired) != desired for found in active)

    async def _scale(self) -> None:
        """Follow a new spec.replicas without moving the rollout on."""
        desired = rollout.replicas_of(self.deployment)
        active = [found for found in self.everything if rollout.replicas_of(found)]
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
        elif rollout.is_rolling(self.deployment):
            active.sort(key=_age, reverse=True)
            for name, size in rollout.proportional_sizes(self.deployment, active).items():
                await self._resize(self.sets[name], size)

    async def _forget_old(self) -> None:
        for found in rollout.sets_to_forget(self.deployment, self.old):
            namespace, name = key_of(found)
            try:
                await self.client.delete(SETS, name, namespace, uid=uid_of(found))
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
            await self.controller.sets.shows_deletion(found)

    # --- writing -----------------------------------------------------------------------------------------------

    def _keep(self, found: Object) -> Object:
        self.sets[found["metadata"]["name"]] = found
        self.find_sets()
        return found

    async def _resize(self, found: Object, size: int) -> bool:
        """Give a ReplicaSet its size, and note the Deployment's on it. False when the size was right already."""
        before = rollout.replicas_of(found)
        annotations = {**annotations_of(found), **rollout.size_annotations(self.deployment)}
        if before == size and annotations == annotations_of(found):
            return False
        changed = clone(found)
        changed["spec"]["replicas"] = size
        changed["metadata"]["annotations"] = annotations
        written = await self.client.update(SETS, changed)
        await self.controller.sets.shows(written)
        self._keep(written)
        if before != size:
            self._say_scaled(written, before, size)
        return before != size

    def _say_scaled(self, found: Object, before: int, size: int) -> None:
        direction = "up" if size > before else "down"
        name = found["metadata"]["name"]
        message = f"Scaled {direction} replica set {name} from {before} to {size}"
        self.controller.events.event(self.deployment, "Normal", "ScalingReplicaSet", message)

    async def _bring_new_up_to_date(self) -> None:
        """Revision and annotations of the new ReplicaSet, when there is one already."""
        new = self.new
        if new is None:
            return
        revision = rollout.next_revision(self.old)
        annotations = rollout.annotations_of_new_set(self.deployment, annotations_of(new), revision)
        seconds = self.deployment["spec"].get("minReadySeconds", 0)
        if annotations != annotations_of(new) or seconds != new["spec"].get("minReadySeconds", 0):
            changed = clone(new)
            changed["metadata"]["annotations"] = annotations
            changed["spec"]["minReadySeconds"] = seconds
            written = await self.client.update(SETS, changed)
            await self.controller.sets.shows(written)
            new = self._keep(written)
        await self._note_revision(new)
        if words.find_condition(self.before, "Progressing") is None:
            self._say_progress("True", "FoundNewReplicaSet", f'Found new replica set "{new["metadata"]["name"]}"')

    async def _ensure_new(self) -> Object:
        """The ReplicaSet with the Deployment's template, made when there is none. Raises ApiError."""
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
        size = rollout.new_set_size(deployment, self.everything, 0)
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
                self._say_progress("False", "ReplicaSetCreateError", message)
                raise
        else:
            self._say_progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
            if size:
                self._say_scaled(made, 0, size)
        await self.controller.sets.shows(made)
        self._keep(made)
        await self._note_revision(made)
        return made

    async def _resolve_collision(self, name: str, error: ApiError) -> Object:
        """Another ReplicaSet has the name: it is ours when owner and template say so, else the hash is salted."""
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
        await self.controller.deployments.shows(written)
        # Whoever changed the spec meanwhile has queued another reconcile; this one finishes what it began.
        self.deployment["metadata"] = {
            **clone(written["metadata"]),
            "generation": self.deployment["metadata"].get("generation", 0),
        }

    # --- status ------------------------------------------------------------------------------------------------

    def _say_progress(self, status: str, reason: str, message: str) -> None:
        if not words.has_deadline(self.deployment):
            return
        words.put_condition(self.before, words.condition("Progressing", status, reason, message), self.moment)

    def _note_pause(self) -> None:
        found = words.find_condition(self.before, "Progressing")
        if found is not None and found.get("reason") == "ProgressDeadlineExceeded":
            return
        noted = found is not None and found.get("reason") == "DeploymentPaused"
        if self.deployment["spec"].get("paused") and not noted:
            self._say_progress("Unknown", "DeploymentPaused", "Deployment is paused")
        elif not self.deployment["spec"].get("paused") and noted:
            self._say_progress("Unknown", "DeploymentResumed", "Deployment is resumed")

    async def write_status(self) -> float | None:
        """Write the status when it says something new. Returns seconds after which the deadline is due, or None."""
        deployment = self.deployment
        current = self.controller.deployments.get(key_of(deployment))
        if current is None or uid_of(current) != uid_of(deployment):
            return None
        status = words.calculate(deployment, self.everything, self.new, self.moment)
        if self.in_rollout:
            words.progress(deployment, status, self.everything, self.new, self.moment)
        if status != {"terminatingReplicas": 0, **(current.get("status") or {})}:
            try:
                written = await self.client.update(RESOURCE, {**current, "status": status}, subresource="status")
            except ApiError as error:
                if error.code == 404:
                    return None
                raise
            await self.controller.deployments.shows(written)
        if self.problem is not None:
            raise self.problem
        if deployment["spec"].get("paused"):
            return None
        left = words.deadline_left(deployment, status, self.moment)
        return left + 1.0 if left else None


def _age(found: Object) -> tuple[str, str]:
    return found["metadata"].get("creationTimestamp", ""), found["metadata"]["name"]
