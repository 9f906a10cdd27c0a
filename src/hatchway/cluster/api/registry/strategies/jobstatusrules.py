"""The rules of a Job's status (`validateJobStatus`, `ValidateJobStatusUpdate` in `pkg/apis/batch/validation`).

The rules exist because clients rely on the status of a finished Job, and users' controllers may write it (`managedBy`).
The rules for a part of the status are applied only if this part has changed.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.jobindexes import contains, indexes_fault, parse_intervals
from hatchway.errors import Cause
from hatchway.kube.api import Object

Json = dict[str, Any]

_COUNTS = ("active", "succeeded", "failed", "ready", "terminating")


def _is_true(status: Json, kind: str) -> bool:
    return any(one.get("type") == kind and one.get("status") == "True" for one in status.get("conditions") or ())


def _status_error(key: str, text: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {text}", f"status.{key}")


def validate_job_status(obj: Object, old: Object) -> list[Cause]:
    """Return the errors in the new status of a Job, and forbidden changes of the status."""
    status, former = obj.get("status") or {}, old.get("status") or {}
    causes = []
    for key in _COUNTS:
        causes += v.non_negative(status.get(key), f"status.{key}")
    return (
        causes
        + _uncounted(status.get("uncountedTerminatedPods") or {})
        + _conditions(status, former)
        + _times(obj, status, former)
        + _finished(status, former)
        + _indexes(obj["spec"], status, former)
        + _counters(obj["spec"], status, former)
    )


def _uncounted(uncounted: Json) -> list[Cause]:
    causes, seen = [], set()
    for key in ("succeeded", "failed"):
        for index, uid in enumerate(uncounted.get(key) or ()):
            at = f"status.uncountedTerminatedPods.{key}[{index}]"
            if not uid:
                causes.append(v.invalid(at, uid, "must not be empty"))
            elif uid in seen:
                causes.append(v.duplicate(at, uid))
            seen.add(uid)
    return causes


def _conditions(status: Json, former: Json) -> list[Cause]:
    complete, failed = _is_true(status, "Complete"), _is_true(status, "Failed")
    target, criteria = _is_true(status, "FailureTarget"), _is_true(status, "SuccessCriteriaMet")
    changed = {kind: _is_true(status, kind) != _is_true(former, kind) for kind in ("Complete", "Failed")}
    rules = (
        (complete and failed, "cannot set Complete=True and Failed=true conditions"),
        (complete and target, "cannot set Complete=True and FailureTarget=true conditions"),
        (
            changed["Failed"] and failed and not target,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            changed["Complete"] and complete and not criteria,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (criteria and failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (criteria and target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
    )
    causes = [_status_error("conditions", text) for broken, text in rules if broken]
    for kind in ("Failed", "Complete", "FailureTarget"):
        if _is_true(former, kind) and not _is_true(status, kind):
            causes.append(_status_error("conditions", f"cannot disable the terminal {kind}=True condition"))
    if _is_true(former, "SuccessCriteriaMet") and not criteria:
        causes.append(_status_error("conditions", "cannot disable the SuccessCriteriaMet=True condition"))
    return causes


def _times(obj: Object, status: Json, former: Json) -> list[Cause]:
    causes = []
    start, end = status.get("startTime"), status.get("completionTime")
    complete, at = _is_true(status, "Complete"), "status.completionTime"
    if end and not complete:
        text = "cannot set completionTime when there is no Complete=True condition"
        causes.append(v.invalid(at, end, text))
    if complete and not end:
        causes.append(v.required(at, "completionTime is required for Complete jobs"))
    if start and end and (start != former.get("startTime") or end != former.get("completionTime")) and end < start:
        causes.append(v.invalid(at, end, "completionTime cannot be set before startTime"))
    if end and former.get("completionTime") and end != former["completionTime"]:
        causes.append(v.invalid(at, end, "completionTime cannot be mutated"))
    suspended = obj["spec"].get("suspend") or _is_true(former, "Suspended")
    if former.get("startTime") and start != former["startTime"] and not suspended:
        causes.append(v.required("status.startTime", "startTime cannot be removed for unsuspended job"))
    return causes


def _finished(status: Json, former: Json) -> list[Cause]:
    if not (_is_true(status, "Complete") or _is_true(status, "Failed")):
        return []
    causes = []
    for key in ("active", "terminating"):
        if (status.get(key) or 0) > 0:
            causes.append(v.invalid(f"status.{key}", status[key], f"{key}>0 is invalid for finished job"))
    if not status.get("startTime"):
        causes.append(v.required("status.startTime", "startTime is required for finished job"))
    uncounted = status.get("uncountedTerminatedPods") or {}
    if uncounted.get("succeeded") or uncounted.get("failed"):
        text = "uncountedTerminatedPods needs to be empty for finished job"
        causes.append(v.invalid("status.uncountedTerminatedPods", uncounted, text))
    return causes


def _indexes(spec: Json, status: Json, former: Json) -> list[Cause]:
    causes = []
    completed, failed = status.get("completedIndexes") or "", status.get("failedIndexes")
    completions, indexed = spec.get("completions"), spec.get("completionMode") == "Indexed"
    changed = {key: status.get(key) != former.get(key) for key in ("completedIndexes", "failedIndexes")}
    where = "status.failedIndexes"
    if completions is not None:
        for key, text in (("completedIndexes", completed), ("failedIndexes", failed or "")):
            fault = indexes_fault(text, completions)[1] if changed[key] else ""
            if fault:
                causes.append(v.invalid(f"status.{key}", text, f"error parsing {key}: {fault}"))
        overlap = _overlap(completed, failed or "", completions) if any(changed.values()) else None
        if overlap is not None:
            text = f"failedIndexes and completedIndexes overlap at index: {overlap}"
            causes.append(v.invalid(where, failed, text))
    if completed and not indexed:
        text = "cannot set non-empty completedIndexes when non-indexed completion mode"
        causes.append(v.invalid("status.completedIndexes", completed, text))
    if failed is not None and spec.get("backoffLimitPerIndex") is None:
        text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        causes.append(v.invalid(where, failed, text))
    return causes


def _overlap(completed: str, failed: str, completions: int) -> int | None:
    """Return the first index that both lists of indexes (`0-2,5`) contain, or None."""
    left, right = parse_intervals(completed, completions), parse_intervals(failed, completions)
    starts = sorted({first for first, _ in (*left, *right)})
    return next((one for one in starts if contains(left, one) and contains(right, one)), None)


def _counters(spec: Json, status: Json, former: Json) -> list[Cause]:
    causes = []
    if (status.get("failed") or 0) < (former.get("failed") or 0):
        causes.append(v.invalid("status.failed", status.get("failed") or 0, "cannot decrease the failed counter"))
    # An elastic indexed Job loses succeeded indexes when its completions are reduced.
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if (status.get("succeeded") or 0) < (former.get("succeeded") or 0) and not elastic:
        text = "cannot decrease the succeeded counter"
        causes.append(v.invalid("status.succeeded", status.get("succeeded") or 0, text))
    ready, active = status.get("ready"), status.get("active") or 0
    changed = (ready, active) != (former.get("ready"), former.get("active") or 0)
    if ready is not None and changed and ready > active:
        causes.append(v.invalid("status.ready", ready, "cannot set more ready pods than active"))
    return causes
