"""Deletes Jobs some time after they have finished (`ttlafterfinished/ttlafterfinished_controller.go`)."""

from __future__ import annotations

from datetime import datetime

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.job import RESOURCE
from hatchway.cluster.controllers.objectfields import is_deleting, parse_time
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.kube.api import Object
from hatchway.kube.objects import Key


class JobTTLController(Controller):
    """Deletes each finished Job, with its pods, `ttlSecondsAfterFinished` after its end."""

    name = "ttl-after-finished-controller"
    workers = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.jobs = context.cache(RESOURCE)
        self.jobs.subscribe(self._job_changed)

    def _job_changed(self, _kind: str, job: Object, _before: Object | None) -> None:
        if seconds_left(job, self.context.now()) is not None:
            self.enqueue(job)

    async def reconcile(self, key: Key) -> float | None:
        """Delete the Job `key` if its time to live is over. Return the seconds until its deletion, or None."""
        job = self.jobs.get(key)
        left = seconds_left(job, self.context.now()) if job is not None else None
        if job is None or left is None:
            return None
        if left > 0:
            return left
        await delete_unless_gone(self.client, RESOURCE, job, propagation="Foreground")
        return None


def seconds_left(job: Object, now: datetime) -> float | None:
    """Return the seconds until a Job must be deleted; None when it is never deleted."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    if seconds is None or is_deleting(job):
        return None
    for condition in (job.get("status") or {}).get("conditions") or ():
        ended = parse_time(condition.get("lastTransitionTime"))
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True" and ended is not None:
            return max(0.0, float(seconds) - (now - ended).total_seconds())
    return None
