"""Starts the Jobs of CronJobs at their times (kube-controller-manager's `cronjob/cronjob_controllerv2.go`).

`cronplan.py` decides; this file reads and writes objects.
"""

from __future__ import annotations

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.cronplan import CronPlan, plan_cron, started_status
from hatchway.cluster.controllers.indexes import by_controller
from hatchway.cluster.controllers.objectfields import controlled_by, uid_of
from hatchway.cluster.controllers.writes import is_namespace_terminating
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of

RESOURCE = "cronjobs.batch"
JOBS = "jobs.batch"
# A CronJob is checked again after at most this many seconds, because the machine's clock may jump.
_LONGEST_WAIT = 600.0


class CronJobController(Controller):
    """Creates a Job for each run of a CronJob, and deletes Jobs beyond the limits of its history."""

    name = "cronjob-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.cron_jobs = context.cache(RESOURCE)
        self.jobs = context.cache(JOBS)
        self.events = context.recorder(self.name)
        self.cron_jobs.subscribe(self.enqueue_changed)
        self.jobs.subscribe(self._job_changed)

    def _job_changed(self, _kind: str, job: Object, before: Object | None) -> None:
        self.enqueue_owners("CronJob", job, before)

    async def reconcile(self, key: Key) -> float | None:
        """Start the due run of the CronJob `key`, if any. Return the seconds until the next run, or None."""
        cron_job = self.cron_jobs.get(key)
        if cron_job is None:
            return None
        plan = plan_cron(cron_job, self.jobs.index(by_controller).get(uid_of(cron_job)), self.context.now())
        for kind, reason, message in plan.events:
            self.events.event(cron_job, kind, reason, message)
        try:
            for job in plan.replaced:
                await self._delete(cron_job, job)
            await self._create(cron_job, plan)
            for job in plan.old:
                await self._delete(cron_job, job)
        finally:
            await self._write_status(cron_job, plan.status)
        return None if plan.again is None else min(plan.again, _LONGEST_WAIT)

    async def _create(self, cron_job: Object, plan: CronPlan) -> None:
        if plan.create is None or plan.moment is None:
            return
        namespace, name = cron_job["metadata"]["namespace"], plan.create["metadata"]["name"]
        try:
            job = await self.client.create(JOBS, plan.create, namespace)
        except ApiError as error:
            if is_namespace_terminating(error):
                return
            if error.reason != "AlreadyExists":
                self.events.event(cron_job, "Warning", "FailedCreate", f"Error creating job: {error.message}")
                raise
            # An earlier reconcile created the Job, but could not write the status.
            job = await self.client.get(JOBS, name, namespace)
            if not controlled_by(job, cron_job):
                return
        else:
            self.events.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {name}")
        await self.jobs.wait_for_write(job)
        plan.status = started_status(plan.status, job, plan.moment)

    async def _delete(self, cron_job: Object, job: Object) -> None:
        namespace, name = key_of(job)
        try:
            await self.client.delete(JOBS, name, namespace, uid=uid_of(job), propagation="Background")
        except ApiError as error:
            if error.code not in (404, 409):
                self.events.event(cron_job, "Warning", "FailedDelete", f"Deleted job: {error.message}")
                raise
        else:
            self.events.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name}")
        await self.jobs.wait_for_deletion(job)

    async def _write_status(self, cron_job: Object, status: Object) -> None:
        if status == (cron_job.get("status") or {}):
            return
        try:
            written = await self.client.update(RESOURCE, {**cron_job, "status": status}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self.cron_jobs.wait_for_write(written)
