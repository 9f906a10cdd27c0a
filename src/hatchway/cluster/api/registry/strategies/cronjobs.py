"""CronJobs (batch/v1): validation (`pkg/apis/batch/validation`, `pkg/registry/batch/cronjob`)."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.jobs import job_warnings, validate_job_spec
from hatchway.cluster.cronschedule import CronError, parse_schedule, zone_of
from hatchway.errors import Cause
from hatchway.kube.api import Object

# The name of a Job consists of the name of its CronJob and a suffix of 11 characters for the minute.
_MAX_NAME = 52
_POLICIES = ("Allow", "Forbid", "Replace")


class CronJobStrategy(Strategy):
    """CronJobs."""

    requires_spec = True
    generation = True

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Start without a status."""
        obj["status"] = {}

    def validate(self, obj: Object) -> list[Cause]:
        """Return all errors in a new CronJob."""
        name = obj["metadata"].get("name") or ""
        causes = _validate_spec(obj, None)
        if len(name) > _MAX_NAME:
            causes.append(v.invalid("metadata.name", name, f"must be no more than {_MAX_NAME} characters"))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return all errors in an update."""
        return _validate_spec(obj, old)

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warnings for the writer of a CronJob."""
        found = []
        if old is None and (messages := v.dns1123_label(obj["metadata"]["name"])):
            text = "this is used in Pod names and hostnames, which can result in surprising behavior"
            found.append(f"metadata.name: {text}; a DNS label is recommended: [{' '.join(messages)}]")
        if old is not None and obj["metadata"].get("generation") == old["metadata"].get("generation"):
            return []
        return found + job_warnings(obj["spec"]["jobTemplate"].get("spec") or {}, "spec.jobTemplate.spec")


def _validate_spec(obj: Object, old: Object | None) -> list[Cause]:
    spec, causes = obj["spec"], []
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not schedule:
        causes.append(v.required("spec.schedule"))
    else:
        causes += _validate_schedule(schedule)
    causes += v.non_negative(spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds")
    if zone is not None and (old is None or zone != old["spec"].get("timeZone")):
        causes += _validate_zone(zone)
    policy = spec.get("concurrencyPolicy")
    if not policy:
        causes.append(v.required("spec.concurrencyPolicy"))
    elif policy not in _POLICIES:
        causes.append(v.not_supported("spec.concurrencyPolicy", policy, _POLICIES))
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    at = "spec.jobTemplate.spec"
    causes += validate_job_spec(template, at)
    if template.get("selector") is not None:
        causes.append(v.invalid(f"{at}.selector", template["selector"], "`selector` will be auto-generated"))
    if template.get("manualSelector"):
        causes.append(v.not_supported(f"{at}.manualSelector", template["manualSelector"], ("nil", "false")))
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes += v.non_negative(spec.get(key), f"spec.{key}")
    return causes


def _validate_schedule(schedule: str) -> list[Cause]:
    causes = []
    try:
        parse_schedule(schedule)
    except CronError as error:
        causes.append(v.invalid("spec.schedule", schedule, str(error)))
    if "TZ" in schedule:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        causes.append(v.invalid("spec.schedule", schedule, text))
    return causes


def _validate_zone(name: str) -> list[Cause]:
    at = "spec.timeZone"
    if not name:
        return [v.invalid(at, name, "timeZone must be nil or non-empty string")]
    if name.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [v.invalid(at, name, text)]
    return [] if zone_of(name) is not None else [v.invalid(at, name, f"unknown time zone {name}")]
