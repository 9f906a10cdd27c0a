"""Runs Jobs to their end (kube-controller-manager's `job/job_controller.go`).

`jobplan.py` and `jobtracking.py` decide; this file reads and writes objects. After each write, the controller waits
until the cache has the written object. So it never counts a pod twice or creates too many pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hatchway.cluster.controllers import jobplan, jobpods
from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import adopters, by_controller, claimable
from hatchway.cluster.controllers.jobplan import JobView, PodPlan, Verdict
from hatchway.cluster.controllers.jobpods import Backoff
from hatchway.cluster.controllers.jobtracking import JobTracking
from hatchway.cluster.controllers.objectfields import (
    clone,
    controller_of,
    controller_reference,
    is_deleting,
    uid_of,
)
from hatchway.cluster.controllers.ownership import claim
from hatchway.cluster.controllers.podcreation import create_pods, delete_pods, pod_prefix
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import key_of
from hatchway.kube.selectors import selector_is_empty

RESOURCE = "jobs.batch"
_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
# The finalizers of at most this many pods are removed at the same time.
_AT_ONCE = 50


class JobController(Controller):
    """Creates the pods of Jobs, counts the pods that have ended, and ends the Jobs.

    Keys: (namespace, name) of a Job; ("pod", namespace, name) of a pod whose Job is gone or has finished.
    """

    name = "job-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.jobs = context.cache(RESOURCE)
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        self._backoffs: dict[str, Backoff] = {}
        self.jobs.subscribe(self._job_changed)
        self.pods.subscribe(self._pod_changed)

    # --- changes of objects --------------------------------------------------------------------------------------

    def _job_changed(self, kind: str, job: Object, _before: Object | None) -> None:
        self.enqueue(job)
        if kind == "DELETED" or jobpods.is_job_finished(job):
            self._backoffs.pop(uid_of(job), None)
            for pod in self.pods.index(by_controller).get(uid_of(job)):
                self._queue_orphan(pod)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        tracked = kind != "DELETED" and jobpods.is_tracked(pod)
        for seen in (pod, before):
            if seen is None:
                continue
            ref = controller_of(seen)
            if ref is None:
                if tracked and seen is pod:
                    self._queue_orphan(pod)
                elif seen is pod and not is_deleting(pod):
                    for found in adopters(self.jobs, pod):
                        self.enqueue(found)
            elif ref.get("kind") == "Job":
                key = seen["metadata"]["namespace"], ref["name"]
                self.queue.add(key)
                job = self.jobs.get(key)
                if tracked and (job is None or uid_of(job) != ref["uid"] or jobpods.is_job_finished(job)):
                    self._queue_orphan(pod)

    def _queue_orphan(self, pod: Object) -> None:
        if jobpods.is_tracked(pod):
            self.queue.add(("pod", *key_of(pod)))

    # --- reconciling ---------------------------------------------------------------------------------------------

    async def reconcile(self, key: Any) -> float | None:
        """Perform the next actions for a Job, or remove the finalizer of a pod that no Job counts any more.

        Returns the seconds until the Job's deadline or its next pod, or None.
        """
        if len(key) == 3:
            await self._release_orphan(key[1:])
            return None
        job = self.jobs.get(key)
        if job is None or jobpods.is_managed_elsewhere(job) or jobpods.is_job_finished(job):
            return None
        selector = job["spec"].get("selector")
        if selector_is_empty(selector):
            return None
        candidates = claimable(self.pods, job, selector)
        pods = await claim(self.client, job, RESOURCE, selector, candidates, self.pods, finalizer=jobpods.FINALIZER)
        view = JobView(job, pods, self._backoffs.get(uid_of(job), Backoff()), self.context.now())
        return await self._step(view)

    async def _step(self, view: JobView) -> float | None:
        verdict = jobplan.judge(view)
        wanted = jobplan.plan(view, verdict)
        problem = None
        deleted: list[Object] = []
        created = 0
        try:
            deleted = await self._delete(view.job, wanted)
            created = await self._create(view, wanted)
        except ApiError as error:
            # Continue, so that the status records the changes that succeeded. But do not end the Job before all its
            # pods are deleted.
            problem, verdict = error, None
        tracking = JobTracking(view, verdict)
        ready = jobplan.ready_count(view.active) - jobplan.ready_count(deleted)
        terminating = len(view.terminating) + len(deleted)
        tracking.observe(len(view.active) - len(deleted) + created, ready, terminating)
        if verdict is None and problem is None:
            tracking.complete_if_done()
            watched = tracking.verdict is None and not is_deleting(view.job)
            if watched and (reason := tracking.note_suspension(view.now)):
                self.events.event(view.job, "Normal", reason, f"Job {reason.lower()}")
        await self._track(view, tracking)
        if problem is not None:
            raise problem
        waits = [seconds for seconds in (wanted.again, view.deadline_left()) if seconds is not None and seconds > 0]
        return min(waits) + 0.05 if waits else None

    async def _track(self, view: JobView, tracking: JobTracking) -> None:
        """Count the pods that have ended, remove their finalizers, and end the Job when all are counted."""
        job = view.job
        releasing = tracking.count(view.now)
        if tracking.changed:
            job = await self._write_status(job, tracking)
        self._backoffs[uid_of(job)] = view.new_backoff
        await self._each(releasing, self._release)
        left = {uid_of(pod) for pod in self.pods.index(by_controller).get(uid_of(job)) if jobpods.is_tracked(pod)}
        tracking.count_released(left)
        final = tracking.finish(self.context.now())
        if tracking.changed:
            job = await self._write_status(job, tracking)
        if final is not None:
            self._report_finished(job, final)

    async def _write_status(self, job: Object, tracking: JobTracking) -> Object:
        written = await self.client.update(RESOURCE, {**job, "status": tracking.status}, subresource="status")
        await self.jobs.wait_for_write(written)
        tracking.changed = False
        return written

    def _report_finished(self, job: Object, final: Verdict) -> None:
        if final.kind != "Complete":
            self.events.event(job, "Warning", final.reason, final.message)
            return
        wanted = job["spec"].get("completions")
        if wanted is not None and job["status"].get("succeeded", 0) > wanted:
            text = "Too many succeeded pods running after completion count reached"
            self.events.event(job, "Warning", "TooManySucceededPods", text)
        self.events.event(job, "Normal", "Completed", "Job completed")

    # --- pods ----------------------------------------------------------------------------------------------------

    async def _delete(self, job: Object, wanted: PodPlan) -> list[Object]:
        if wanted.release:
            await self._each(wanted.delete, self._release)
        return await delete_pods(self.client, self.pods, self.events, job, wanted.delete)

    async def _create(self, view: JobView, wanted: PodPlan) -> int:
        """Create pods; return how many were created."""
        job = view.job
        pods = [_new_pod(view, index) for index in wanted.create]
        return len(await create_pods(self.client, self.pods, self.events, job, pods))

    async def _each(self, pods: list[Object], work: Callable[[Object], Awaitable[None]]) -> None:
        for start in range(0, len(pods), _AT_ONCE):
            await asyncio.gather(*(work(pod) for pod in pods[start : start + _AT_ONCE]))

    async def _release(self, pod: Object) -> None:
        """Remove the finalizer that a pod has until it is counted. Raises ApiError."""
        if not jobpods.is_tracked(pod):
            return
        namespace, name = key_of(pod)
        current = self.pods.get((namespace, name))
        if current is None or uid_of(current) != uid_of(pod):
            return
        left = [one for one in current["metadata"].get("finalizers") or () if one != jobpods.FINALIZER]
        patch = {
            "metadata": {
                "uid": uid_of(pod),
                "resourceVersion": current["metadata"]["resourceVersion"],
                "finalizers": left or None,
            }
        }
        try:
            written = await self.client.patch("pods", name, patch, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self.pods.wait_for_write(written)

    async def _release_orphan(self, key: tuple[str, str]) -> None:
        """Remove the finalizer of a pod whose Job is deleted or finished, unless another controller manages the Job."""
        pod = self.pods.get(key)
        if pod is None or not jobpods.is_tracked(pod):
            return
        ref = controller_of(pod)
        if ref is not None:
            if ref.get("kind") != "Job":
                return
            job = self.jobs.get((key[0], ref["name"]))
            counted = job is not None and (jobpods.is_managed_elsewhere(job) or not jobpods.is_job_finished(job))
            if job is not None and uid_of(job) == ref["uid"] and counted:
                return
        await self._release(pod)


def _new_pod(view: JobView, index: int | None) -> Object:
    """Return a new pod of the Job. index: its completion index; None for a Job without indexes."""
    job = view.job
    template = clone(job["spec"]["template"])
    given, spec = template.get("metadata") or {}, template.get("spec") or {}
    name = job["metadata"]["name"]
    finalizers = list(given.get("finalizers") or ())
    metadata: dict[str, Any] = {
        "generateName": pod_prefix(name),
        "labels": dict(given.get("labels") or {}),
        "annotations": dict(given.get("annotations") or {}),
        "finalizers": finalizers if jobpods.FINALIZER in finalizers else [*finalizers, jobpods.FINALIZER],
        "ownerReferences": [controller_reference(job)],
    }
    if index is not None:
        metadata["generateName"] = _indexed_prefix(name, index)
        metadata["annotations"][jobpods.INDEX] = str(index)
        metadata["labels"][jobpods.INDEX] = str(index)
        if view.per_index:
            metadata["annotations"] |= jobpods.failure_annotations(job, view.replaced.get(index))
        spec["hostname"] = f"{name}-{index}"
        for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
            _add_index_variable(container)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _add_index_variable(container: Object) -> None:
    variables = container.setdefault("env", [])
    if all(one.get("name") != _INDEX_VARIABLE for one in variables):
        path = f"metadata.labels['{jobpods.INDEX}']"
        variables.append({"name": _INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}})


def _indexed_prefix(name: str, index: int) -> str:
    """Return the generateName of an indexed pod (`podGenerateNameWithIndex`), cut so that its suffix fits."""
    suffix = f"-{index}-"
    return name[: 58 - len(suffix)] + suffix
