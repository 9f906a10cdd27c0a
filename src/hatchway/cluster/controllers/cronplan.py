"""Decides when a CronJob starts a Job, and which Jobs it keeps (`cronjob/cronjob_controllerv2.go`).

Its functions have no side effects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from hatchway.cluster.controllers import jobpods
from hatchway.cluster.controllers.objectfields import (
    clone,
    controller_reference,
    is_deleting,
    parse_time,
    timestamp,
    uid_of,
)
from hatchway.cluster.cronschedule import CronError, Schedule, latest_before, parse_schedule, zone_of
from hatchway.kube.api import Object

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
# The next check takes place this long after the time of the next run, so that the run is due by then.
_DELTA = timedelta(milliseconds=100)
_MANY = 100

Event = tuple[Literal["Normal", "Warning"], str, str]


@dataclass(slots=True)
class CronPlan:
    """The next actions for a CronJob.

    status: its new status.
    events: (type, reason, message) of each Event.
    replaced: Jobs to delete before the new Job is created.
    old: Jobs of the history to delete.
    create: the Job to create; None to create no Job.
    moment: the time of the run that `create` is for.
    again: seconds until the next run; None for never.
    """

    status: Object
    events: list[Event] = field(default_factory=list)
    replaced: list[Object] = field(default_factory=list)
    old: list[Object] = field(default_factory=list)
    create: Object | None = None
    moment: datetime | None = None
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """The runs that were due since the last started run.

    earliest: runs before this time are not counted.
    latest: the last missed run; None for none.
    many: True if there are more than a hundred.
    """

    earliest: datetime
    latest: datetime | None = None
    many: bool = False


def missed_runs(cron_job: Object, schedule: Schedule, now: datetime, *, deadline: bool) -> Missed:
    """Return the runs that were due and have not started (`mostRecentScheduleTime`).

    deadline: True to leave out runs that are older than spec.startingDeadlineSeconds.

    Raises CronError for a schedule without runs.
    """
    created = parse_time(cron_job["metadata"].get("creationTimestamp")) or now
    earliest = parse_time((cron_job.get("status") or {}).get("lastScheduleTime")) or created
    seconds = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline and seconds is not None:
        earliest = max(earliest, now - timedelta(seconds=min(seconds, 10**9)))
    first = schedule.next_after(earliest)
    second = schedule.next_after(first) if first is not None else None
    if first is None or second is None:
        raise CronError("time difference between two schedules is less than 1 second")
    if now < first:
        return Missed(earliest)
    if now < second:
        return Missed(earliest, first)
    return Missed(earliest, latest_before(schedule, first, now), (now - first) // (second - first) + 1 > _MANY)


def plan_cron(cron_job: Object, jobs: list[Object], now: datetime) -> CronPlan:
    """Return the next actions for a CronJob. jobs: the Jobs that it controls."""
    plan = CronPlan(clone(cron_job.get("status") or {}))
    active = list(plan.status.get("active") or ())
    _update_active(plan, jobs, active)
    _start(plan, cron_job, jobs, active, now)
    _trim_history(plan, cron_job, jobs)
    plan.status["active"] = active
    if not active:
        del plan.status["active"]
    return plan


def _update_active(plan: CronPlan, jobs: list[Object], active: list[Object]) -> None:
    known = {one.get("uid") for one in active}
    for job in jobs:
        name, finished = job["metadata"]["name"], jobpods.is_job_finished(job)
        if uid_of(job) not in known and not finished:
            text = f"Saw a job that the controller did not create or forgot: {name}"
            plan.events.append(("Warning", "UnexpectedJob", text))
        elif uid_of(job) in known and finished:
            kind = "Complete" if jobpods.has_condition(job, "Complete") else "Failed"
            _remove(active, uid_of(job))
            plan.events.append(("Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {kind}"))
        ended = (job.get("status") or {}).get("completionTime")
        if ended and jobpods.has_condition(job, "Complete"):
            plan.status["lastSuccessfulTime"] = max(ended, plan.status.get("lastSuccessfulTime") or "")
    there = {uid_of(job) for job in jobs}
    for one in [one for one in active if one.get("uid") not in there]:
        active.remove(one)
        plan.events.append(("Normal", "MissingJob", f"Active job went missing: {one.get('name')}"))


def _remove(active: list[Object], uid: str) -> None:
    active[:] = [one for one in active if one.get("uid") != uid]


def _start(plan: CronPlan, cron_job: Object, jobs: list[Object], active: list[Object], now: datetime) -> None:
    """Add to `plan` the run that is due, if any."""
    spec = cron_job["spec"]
    if is_deleting(cron_job):
        return
    name = spec.get("timeZone")
    zone = zone_of(name) if name else UTC
    if zone is None:
        plan.events.append(("Warning", "UnknownTimeZone", f'invalid timeZone: "{name}": unknown time zone {name}'))
        return
    if spec.get("suspend"):
        return
    try:
        schedule = parse_schedule(spec["schedule"], zone)
    except CronError as error:
        text = f'unparseable schedule: "{spec["schedule"]}" : {error}'
        plan.events.append(("Warning", "UnparseableSchedule", text))
        return
    try:
        missed = missed_runs(cron_job, schedule, now, deadline=True)
    except CronError as error:
        plan.events.append(("Warning", "InvalidSchedule", f"invalid schedule: {spec['schedule']} : {error}"))
        return
    if missed.latest is not None:
        if missed.many:
            text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            plan.events.append(("Warning", "TooManyMissedTimes", text))
        _start_run(plan, cron_job, jobs, active, missed.latest, now)
    since = missed_runs(cron_job, schedule, now, deadline=False)
    following = schedule.next_after(plan.moment or since.latest or since.earliest)
    plan.again = None if following is None else max(0.0, (following + _DELTA - now).total_seconds())


def _start_run(
    plan: CronPlan, cron_job: Object, jobs: list[Object], active: list[Object], moment: datetime, now: datetime
) -> None:
    spec, name = cron_job["spec"], job_name(cron_job, moment)
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None and moment + timedelta(seconds=min(deadline, 10**9)) < now:
        shown = moment.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
        plan.events.append(("Warning", "MissSchedule", f"Missed scheduled time to start a job: {shown}"))
        return
    started = parse_time((cron_job.get("status") or {}).get("lastScheduleTime")) == moment
    if started or any(one.get("name") == name for one in active):
        return
    if spec.get("concurrencyPolicy") == "Forbid" and active:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        plan.events.append(("Normal", "JobAlreadyActive", text))
        return
    if spec.get("concurrencyPolicy") == "Replace":
        uids = {one.get("uid") for one in active}
        plan.replaced = [job for job in jobs if uid_of(job) in uids]
        active.clear()
    plan.create, plan.moment = _new_job(cron_job, name, moment), moment


def _trim_history(plan: CronPlan, cron_job: Object, jobs: list[Object]) -> None:
    """Add to `plan` the deletion of the oldest Jobs beyond the limits of the history."""
    for kind, key in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = cron_job["spec"].get(key)
        if limit is None:
            continue
        ended = [job for job in jobs if jobpods.has_condition(job, kind) and not is_deleting(job)]
        ended.sort(key=_age)
        plan.old += ended[: max(0, len(ended) - limit)]


def _age(job: Object) -> tuple[bool, str, str]:
    started = (job.get("status") or {}).get("startTime")
    return started is None, started or "", job["metadata"]["name"]


def job_name(cron_job: Object, moment: datetime) -> str:
    """Return the name of the Job of a run. Two runs in the same minute get the same name, so only one Job is made."""
    return f"{cron_job['metadata']['name']}-{int(moment.timestamp()) // 60}"


def _new_job(cron_job: Object, name: str, moment: datetime) -> Object:
    template = clone(cron_job["spec"]["jobTemplate"])
    given = template.get("metadata") or {}
    zone = zone_of(cron_job["spec"].get("timeZone") or "") or UTC
    shown = moment.astimezone(zone).isoformat(timespec="seconds").replace("+00:00", "Z")
    metadata = {
        "name": name,
        "labels": given.get("labels") or {},
        "annotations": {**(given.get("annotations") or {}), SCHEDULED: shown},
        "ownerReferences": [controller_reference(cron_job)],
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template.get("spec") or {}}


def started_status(status: Object, job: Object, moment: datetime) -> Object:
    """Return the status with a Job that has been created. moment: the time of the Job's run."""
    metadata = job["metadata"]
    reference = {
        "kind": "Job",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "batch/v1",
        "resourceVersion": metadata["resourceVersion"],
    }
    return {**status, "active": [*(status.get("active") or ()), reference], "lastScheduleTime": timestamp(moment)}
