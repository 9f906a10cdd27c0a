"""Printers of Jobs and CronJobs (Kubernetes' `pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Cells, Column, Json, Printer, age_of, name_of
from hatchway.cluster.api.registry.printers.humanize import NONE, age, human_duration, seconds
from hatchway.cluster.api.registry.printers.workloads import TEMPLATE, containers_of, selector_text

__all__ = ["CRON_JOB", "JOB"]


def _completions(spec: Json, status: Json) -> str:
    succeeded, wanted = status.get("succeeded", 0), spec.get("completions")
    if wanted is not None:
        return f"{succeeded}/{wanted}"
    parallelism = spec.get("parallelism", 0)
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _duration(status: Json, now: float) -> str:
    began = seconds(status.get("startTime"))
    if began is None:
        return ""
    ended = seconds(status.get("completionTime"))
    return human_duration((now if ended is None else ended) - began)


def _status(obj: Json) -> str:
    conditions = obj.get("status", {}).get("conditions") or ()
    true = {one.get("type") for one in conditions if one.get("status") == "True"}
    deleting = {"Terminating"} if obj.get("metadata", {}).get("deletionTimestamp") else set()
    shown = ("Complete", "Failed", "Terminating", "Suspended", "FailureTarget", "SuccessCriteriaMet")
    return next((one for one in shown if one in true | deleting), "Running")


def _job(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    return [
        name_of(obj),
        _status(obj),
        _completions(spec, status),
        _duration(status, now),
        age_of(obj, now),
        *containers_of(spec.get("template", {})),
        selector_text(spec.get("selector")),
    ]


JOB = Printer(
    _job,
    NAME,
    Column("Status", description="Whether the Job runs, is complete, has failed or is suspended"),
    Column("Completions", description="How many of the wanted pods have succeeded"),
    Column("Duration", description="How long the Job has run"),
    AGE,
    *TEMPLATE,
)


def _cron_job(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    template = spec.get("jobTemplate", {}).get("spec", {})
    suspend = spec.get("suspend")
    return [
        name_of(obj),
        spec.get("schedule", ""),
        spec.get("timeZone", NONE),
        "<unset>" if suspend is None else str(suspend),
        len(status.get("active") or ()),
        age(status["lastScheduleTime"], now) if status.get("lastScheduleTime") else NONE,
        age_of(obj, now),
        *containers_of(template.get("template", {})),
        selector_text(template.get("selector")),
    ]


CRON_JOB = Printer(
    _cron_job,
    NAME,
    Column("Schedule", description="The schedule in cron syntax"),
    Column("Timezone", description="The time zone of the schedule"),
    Column("Suspend", description="Whether new Jobs are suspended"),
    Column("Active", "integer", description="The number of running Jobs"),
    Column("Last Schedule", description="How long ago the last Job was scheduled"),
    AGE,
    *TEMPLATE,
)
