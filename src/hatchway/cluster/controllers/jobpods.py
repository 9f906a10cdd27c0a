"""Reads a Job's pods: their indexes, failures and times; and applies the Job's failure and success policies to them.

The rules come from kube-controller-manager's `job/indexed_job_utils.go`, `pod_failure_policy.go`,
`success_policy.go` and `backoff_utils.go`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hatchway.cluster.controllers.objectfields import annotations_of, is_deleting, parse_time, pod_phase
from hatchway.cluster.jobindexes import Intervals, contains, count, merge, parse_intervals
from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition, key_of
from hatchway.numerals import is_digits, parse_int

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
FINALIZER = "batch.kubernetes.io/job-tracking"
CONTROLLER = "kubernetes.io/job-controller"
# The first and the longest wait after a failure, in seconds.
_FIRST_BACKOFF, _LAST_BACKOFF = 10.0, 600.0
_MAX_INT32 = 2**31 - 1
_NEVER = datetime.min.replace(tzinfo=UTC)


def is_indexed(job: Object) -> bool:
    """Return True when each completion of the Job has an index."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def replaces_only_failed(job: Object) -> bool:
    """Return True when a pod that is being deleted is replaced only after it has ended."""
    spec = job["spec"]
    return bool(spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy") is not None)


def is_managed_elsewhere(job: Object) -> bool:
    """Return True when spec.managedBy names another controller."""
    return job["spec"].get("managedBy") not in (None, CONTROLLER)


def is_job_finished(job: Object) -> bool:
    """Return True when the Job is complete or has failed."""
    return any(has_condition(job, kind) for kind in ("Complete", "Failed"))


def has_condition(job: Object, kind: str) -> bool:
    """Return True when the Job's condition of this type is True."""
    return (get_condition(job, kind) or {}).get("status") == "True"


def is_tracked(pod: Object) -> bool:
    """Return True while the pod has the finalizer that is removed when the pod is counted."""
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def index_of(pod: Object) -> int | None:
    """Return the pod's completion index; None when it has none."""
    text = annotations_of(pod).get(INDEX, "")
    return int(text) if is_digits(text) else None


def valid_index(job: Object, pod: Object) -> int | None:
    """Return the pod's completion index; None when it has none, or one that is not below spec.completions."""
    index = index_of(pod)
    return index if index is not None and index < job["spec"].get("completions", 0) else None


def is_pod_failed(job: Object, pod: Object) -> bool:
    """Return True when the pod counts as failed. A pod that is being deleted may count before it has ended."""
    if pod_phase(pod) == "Failed":
        return True
    return not replaces_only_failed(job) and is_deleting(pod) and pod_phase(pod) != "Succeeded"


def _count_of(pod: Object, annotation: str) -> int:
    found = parse_int(annotations_of(pod).get(annotation)) or 0
    return found if 0 <= found <= _MAX_INT32 else 0


def all_failures(pod: Object) -> int:
    """Return how many earlier pods with the same index have failed, ignored failures included."""
    return _count_of(pod, FAILURES) + _count_of(pod, IGNORED_FAILURES)


# --- the policy for failed pods ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FailureVerdict:
    """The result of spec.podFailurePolicy for a failed pod.

    action: the action of the first rule that matches; "" when none matches.
    message: why the Job fails; "" when it does not fail.
    """

    action: str = ""
    message: str = ""

    @property
    def counts(self) -> bool:
        """Return True when the failure counts towards the backoff limits."""
        return self.action != "Ignore"


def judge_failure(job: Object, pod: Object) -> FailureVerdict:
    """Apply the Job's podFailurePolicy to a failed pod."""
    namespace, name = key_of(pod)
    status = pod.get("status") or {}
    for index, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        action, why = rule.get("action", ""), ""
        if rule.get("onExitCodes") is not None:
            found = _matching_container(status, rule["onExitCodes"])
            if found is not None:
                code = found["state"]["terminated"]["exitCode"]
                why = f"Container {found['name']} for pod {namespace}/{name} failed with exit code {code}"
        else:
            kind = _matching_condition(status, rule.get("onPodConditions") or ())
            why = f"Pod {namespace}/{name} has condition {kind}" if kind else ""
        if why:
            fails = action == "FailJob"
            return FailureVerdict(action, f"{why} matching {action} rule at index {index}" if fails else "")
    return FailureVerdict()


def _matching_container(status: Object, wanted: Object) -> Object | None:
    for key in ("containerStatuses", "initContainerStatuses"):
        for container in status.get(key) or ():
            ended = (container.get("state") or {}).get("terminated")
            if ended is None or wanted.get("containerName") not in (None, container["name"]):
                continue
            code = ended.get("exitCode", 0)
            if code != 0 and (code in wanted["values"]) == (wanted["operator"] == "In"):
                found: Object = container
                return found
    return None


def _matching_condition(status: Object, patterns: Iterable[Object]) -> str:
    wanted = {(one.get("type"), one.get("status", "True")) for one in patterns}
    for condition in status.get("conditions") or ():
        if (condition.get("type"), condition.get("status")) in wanted:
            return str(condition["type"])
    return ""


def is_index_failed(job: Object, pod: Object) -> bool:
    """Return True when the pod has failed and its index may not get another pod."""
    if not is_pod_failed(job, pod):
        return False
    verdict = judge_failure(job, pod)
    if verdict.action == "FailIndex":
        return True
    return verdict.counts and _count_of(pod, FAILURES) >= job["spec"]["backoffLimitPerIndex"]


def failure_annotations(job: Object, replaced: Object | None) -> dict[str, str]:
    """Return the annotations of a new pod that count the failures of its index. replaced: the last failed pod."""
    failures, ignored = 0, 0
    if replaced is not None:
        failures, ignored = _count_of(replaced, FAILURES), _count_of(replaced, IGNORED_FAILURES)
        if judge_failure(job, replaced).counts:
            failures += 1
        else:
            ignored += 1
    found = {FAILURES: str(failures)}
    if ignored:
        found[IGNORED_FAILURES] = str(ignored)
    return found


def matched_success_rule(job: Object, succeeded: Intervals) -> str:
    """Return the message of the first rule of spec.successPolicy that is met; "" when none is."""
    for index, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or () if succeeded else ()):
        wanted, needed = rule.get("succeededIndexes"), rule.get("succeededCount")
        have = count(succeeded)
        if wanted is not None:
            required = parse_intervals(wanted, job["spec"]["completions"])
            have = count(required) + count(succeeded) - count(merge(required, succeeded))
            needed = count(required) if needed is None else needed
        if needed is not None and have >= needed:
            return f"Matched rules at index {index}"
    return ""


# --- times -------------------------------------------------------------------------------------------------------


def finished_at(pod: Object) -> datetime:
    """Return when a pod ended (`getFinishedTime`).

    This is the time when its last container ended. If that time is not known, it is the time when the pod became
    unready; else the time when it was deleted; else the time when it was created.
    """
    metadata = pod["metadata"]
    ends = []
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        ends.append(parse_time(ended.get("finishedAt")))
    times = [one for one in ends if one is not None]
    if times and len(times) == len(ends):
        return max(times)
    condition = get_condition(pod, "Ready") or {}
    since = parse_time(condition.get("lastTransitionTime")) if condition.get("status") == "False" else None
    if since is not None:
        return since
    deleted = parse_time(metadata.get("deletionTimestamp"))
    if deleted is not None:
        return deleted - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    return parse_time(metadata.get("creationTimestamp")) or _NEVER


@dataclass(frozen=True, slots=True)
class Backoff:
    """The number of a Job's pods that have failed since its last success, and the time of the last failure."""

    failures: int = 0
    last: datetime | None = None

    def after(self, succeeded: list[Object], failed: list[Object]) -> Backoff:
        """Return a Backoff that also counts these pods, which have ended and are not counted in this Backoff."""
        if not succeeded and not failed:
            return self
        ends = sorted(map(finished_at, failed))
        if not succeeded:
            return Backoff(self.failures + len(ends), ends[-1])
        last_success = max(map(finished_at, succeeded))
        later = [one for one in ends if one > last_success]
        return Backoff(len(later), later[-1] if later else None)

    def remaining(self, now: datetime) -> float:
        """Return the seconds until the next pod may be created."""
        return backoff_left(self.failures, self.last, now)


def backoff_left(failures: int, last: datetime | None, now: datetime) -> float:
    """Return how many seconds remain of the wait after the last failure.

    The wait is 10 s after the first failure, and doubles with each failure, up to 10 minutes.
    """
    if failures <= 0 or last is None:
        return 0.0
    wait = min(_FIRST_BACKOFF * 2.0 ** min(failures - 1, 30), _LAST_BACKOFF)
    return max(0.0, wait - (now - last).total_seconds())


def index_backoff_left(failed: Object | None, now: datetime) -> float:
    """Return the seconds until an index may have its next pod. failed: its last failed pod."""
    return 0.0 if failed is None else backoff_left(all_failures(failed) + 1, finished_at(failed), now)


def replaced_pods(job: Object, pods: list[Object], settled: Intervals, active: set[int]) -> dict[int, Object]:
    """Return the last failed pod of each index that waits for its next pod.

    Such a pod keeps its finalizer, because the next pod continues its count of failures.

    settled: the indexes that have succeeded or failed.
    active: the indexes with a running pod.
    """
    found: dict[int, Object] = {}
    for pod in pods:
        index = valid_index(job, pod)
        if index is None or index in active or contains(settled, index):
            continue
        if is_tracked(pod) and is_pod_failed(job, pod):
            other = found.get(index)
            rank = (all_failures(pod), finished_at(pod))
            if other is None or rank >= (all_failures(other), finished_at(other)):
                found[index] = pod
    return found
