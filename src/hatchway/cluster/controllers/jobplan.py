"""Decides the next actions for a Job: pods to create and to delete, and its end (`job/job_controller.go`).

`JobView` reads a Job and its pods; `plan` decides about pods; `JobTracking` counts the pods that have ended. A pod is
counted in three steps: its uid is written to `uncountedTerminatedPods`, then its finalizer is removed, then the counter
is increased. So no pod is missed or counted twice when a write fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hatchway.cluster.controllers import jobpods
from hatchway.cluster.controllers.jobpods import Backoff
from hatchway.cluster.controllers.objectfields import is_active, is_deleting, parse_time, pod_phase, uid_of
from hatchway.cluster.controllers.podranks import deletion_order
from hatchway.cluster.jobindexes import Intervals, contains, count, merge, parse_intervals, single
from hatchway.kube.api import Object
from hatchway.kube.objects import is_finished, is_ready

# At most this many pods are created or deleted in one step (MaxPodCreateDeletePerSync).
MOST_PODS = 500


@dataclass(slots=True)
class Verdict:
    """A condition that ends a Job.

    kind: its type. FailureTarget is followed later by Failed, and SuccessCriteriaMet by Complete.
    """

    kind: str
    reason: str = ""
    message: str = ""


@dataclass(slots=True)
class JobView:
    """The current state of a Job and of the pods that it controls.

    backoff: the failures before this reconcile. new_backoff: these and the failures of newly ended pods.
    active: the pods that have neither ended nor are being deleted. terminating: the pods that are being deleted.
    succeeded_uids, failed_uids: the pods that status.uncountedTerminatedPods lists.
    succeeded, failed: the numbers of pods that have ended, whether they are counted already or not.
    known_indexes: the completed indexes in the status. succeeded_indexes: these and those of newly succeeded pods.
    failed_indexes: None for a Job without a backoff limit for each index.
    replaced: the last failed pod of each index that waits for its next pod.
    """

    job: Object
    pods: list[Object]
    backoff: Backoff
    now: datetime
    active: list[Object] = field(init=False)
    terminating: list[Object] = field(init=False)
    succeeded_uids: set[str] = field(init=False)
    failed_uids: set[str] = field(init=False)
    succeeded: int = field(init=False)
    failed: int = field(init=False)
    new_backoff: Backoff = field(init=False)
    known_indexes: Intervals = field(init=False, default_factory=list)
    succeeded_indexes: Intervals = field(init=False, default_factory=list)
    failed_indexes: Intervals | None = field(init=False, default=None)
    replaced: dict[int, Object] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        job, status = self.job, self.status
        self.active = [pod for pod in self.pods if is_active(pod)]
        self.terminating = [pod for pod in self.pods if is_deleting(pod) and not is_finished(pod)]
        uncounted = status.get("uncountedTerminatedPods") or {}
        self.succeeded_uids = set(uncounted.get("succeeded") or ())
        self.failed_uids = set(uncounted.get("failed") or ())
        succeeded = [pod for pod in self._uncounted(self.succeeded_uids) if pod_phase(pod) == "Succeeded"]
        failed = [pod for pod in self._uncounted(self.failed_uids) if jobpods.is_pod_failed(job, pod)]
        counted = [pod for pod in failed if jobpods.judge_failure(job, pod).counts]
        self.succeeded = status.get("succeeded", 0) + len(succeeded) + len(self.succeeded_uids)
        self.failed = status.get("failed", 0) + len(counted) + len(self.failed_uids)
        self.new_backoff = self.backoff.after(succeeded, failed)
        if self.indexed:
            self._read_indexes()

    def _uncounted(self, known: set[str]) -> list[Object]:
        return [
            pod
            for pod in self.pods
            if jobpods.is_tracked(pod)
            and uid_of(pod) not in known
            and (not self.indexed or jobpods.valid_index(self.job, pod) is not None)
        ]

    def _read_indexes(self) -> None:
        completions = self.spec.get("completions", 0)
        self.known_indexes = parse_intervals(self.status.get("completedIndexes") or "", completions)
        tracked = [(jobpods.valid_index(self.job, pod), pod) for pod in self.pods if jobpods.is_tracked(pod)]
        new = [index for index, pod in tracked if index is not None and pod_phase(pod) == "Succeeded"]
        self.succeeded_indexes = merge(self.known_indexes, single(new))
        self.succeeded = count(self.succeeded_indexes)
        if not self.per_index:
            return
        known = parse_intervals(self.status.get("failedIndexes") or "", completions)
        ended = [index for index, pod in tracked if index is not None and jobpods.is_index_failed(self.job, pod)]
        self.failed_indexes = merge(known, single(ended))
        settled = merge(self.succeeded_indexes, self.failed_indexes)
        self.replaced = jobpods.replaced_pods(self.job, self.pods, settled, indexes_of(self.active))

    @property
    def spec(self) -> dict[str, Any]:
        """Return the Job's spec."""
        found: dict[str, Any] = self.job["spec"]
        return found

    @property
    def status(self) -> dict[str, Any]:
        """Return the Job's status, {} when it has none."""
        return self.job.get("status") or {}

    @property
    def indexed(self) -> bool:
        """Return True when each completion has an index."""
        return jobpods.is_indexed(self.job)

    @property
    def per_index(self) -> bool:
        """Return True when each index has its own backoff limit."""
        return self.spec.get("backoffLimitPerIndex") is not None

    @property
    def suspended(self) -> bool:
        """Return True while the Job may have no pods."""
        return bool(self.spec.get("suspend"))

    @property
    def start(self) -> datetime | None:
        """Return the start time of the Job: `now` if it starts now; None for a suspended Job that has not started."""
        started = parse_time(self.status.get("startTime"))
        return started if started is not None or self.suspended else self.now

    def deadline_left(self) -> float | None:
        """Return the seconds until the deadline (spec.activeDeadlineSeconds); None without one, or while suspended."""
        seconds = self.spec.get("activeDeadlineSeconds")
        if seconds is None or self.start is None or self.suspended:
            return None
        return (self.start + timedelta(seconds=min(seconds, 10**9)) - self.now).total_seconds()


def indexes_of(pods: list[Object]) -> set[int]:
    """Return the completion indexes of pods."""
    return {index for index in map(jobpods.index_of, pods) if index is not None}


def judge(view: JobView) -> Verdict | None:
    """Return the condition that ends the Job, or None. A condition that the Job already has is returned unchanged."""
    job, spec = view.job, view.spec
    for condition in view.status.get("conditions") or ():
        if condition["type"] in ("SuccessCriteriaMet", "FailureTarget") and condition["status"] == "True":
            return Verdict(condition["type"], condition.get("reason", ""), condition.get("message", ""))
    for pod in view.pods if spec.get("podFailurePolicy") else ():
        if jobpods.is_pod_failed(job, pod) and (message := jobpods.judge_failure(job, pod).message):
            return Verdict("FailureTarget", "PodFailurePolicy", message)
    if view.failed > spec["backoffLimit"] or _restarted_too_often(view):
        return Verdict("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = view.deadline_left()
    if left is not None and left <= 0:
        return Verdict("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
    if view.failed_indexes is not None:
        failed, most = count(view.failed_indexes), spec.get("maxFailedIndexes")
        if most is not None and failed > most:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return Verdict("FailureTarget", "MaxFailedIndexesExceeded", message)
        if failed and failed + count(view.succeeded_indexes) >= spec["completions"]:
            return Verdict("FailureTarget", "FailedIndexes", "Job has failed indexes")
    if view.indexed and (message := jobpods.matched_success_rule(job, view.succeeded_indexes)):
        return Verdict("SuccessCriteriaMet", "SuccessPolicy", message)
    return None


def _restarted_too_often(view: JobView) -> bool:
    """Return True when the kubelet has restarted the containers of running pods too often."""
    if (view.spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    restarts: int = sum(
        container.get("restartCount", 0)
        for pod in view.pods
        if pod_phase(pod) in ("Running", "Pending")
        for key in ("initContainerStatuses", "containerStatuses")
        for container in (pod.get("status") or {}).get(key) or ()
    )
    limit: int = view.spec["backoffLimit"]
    return restarts >= max(1, limit)


@dataclass(slots=True)
class PodPlan:
    """The next actions for a Job's pods.

    delete: pods to delete.
    release: True to remove their finalizers first, so that they are not counted.
    create: for each pod to create, its index; None for a Job without indexes.
    again: seconds until the next reconcile, or None.
    """

    delete: list[Object] = field(default_factory=list)
    release: bool = True
    create: list[int | None] = field(default_factory=list)
    again: float | None = None


def plan(view: JobView, verdict: Verdict | None) -> PodPlan:
    """Return the next actions for the Job's pods (`manageJob`, `deleteActivePods`). verdict: from `judge`."""
    if verdict is not None:
        return PodPlan(delete=list(view.active), release=False)
    if is_deleting(view.job):
        return PodPlan()
    if view.suspended:
        return PodPlan(delete=list(view.active))
    parallelism, completions = view.spec.get("parallelism", 1), view.spec.get("completions")
    if completions is None:
        wanted = len(view.active) if view.succeeded else parallelism
    else:
        wanted = max(0, min(parallelism, completions - view.succeeded))
    surplus = _surplus(view, max(0, len(view.active) - wanted))[:MOST_PODS]
    if surplus:
        # Pods are created in the next reconcile, because two of the present pods may have the same index.
        return PodPlan(delete=surplus)
    waiting = len(view.terminating) if jobpods.replaces_only_failed(view.job) else 0
    missing = min(wanted - waiting - len(view.active), MOST_PODS)
    if missing <= 0:
        return PodPlan()
    if not view.per_index:
        left = view.new_backoff.remaining(view.now)
        if left > 0:
            return PodPlan(again=left)
    if not view.indexed:
        return PodPlan(create=[None] * missing)
    pending = _pending_indexes(view, missing)
    if not view.per_index:
        return PodPlan(create=list(pending))
    waits = {index: jobpods.index_backoff_left(view.replaced.get(index), view.now) for index in pending}
    due = [index for index in pending if waits[index] <= 0]
    later = [seconds for seconds in waits.values() if seconds > 0]
    return PodPlan(create=list(due), again=min(later) if later else None)


def _surplus(view: JobView, least: int) -> list[Object]:
    """Return at least `least` active pods to delete, including all pods whose index is invalid or used twice."""
    order = deletion_order(view.active, view.now)
    found: list[Object] = []
    left = sorted(view.active, key=order)
    if view.indexed:
        by_index: dict[int | None, list[Object]] = {}
        for pod in left:
            by_index.setdefault(jobpods.valid_index(view.job, pod), []).append(pod)
        found = by_index.pop(None, [])
        found += [pod for pods in by_index.values() for pod in pods[:-1]]
        gone = {uid_of(pod) for pod in found}
        left = [pod for pod in left if uid_of(pod) not in gone]
    return found + left[: max(0, least - len(found))]


def _pending_indexes(view: JobView, wanted: int) -> list[int]:
    """Return up to `wanted` of the lowest indexes that need a pod."""
    busy = single(indexes_of(view.active))
    if jobpods.replaces_only_failed(view.job):
        busy = merge(busy, single(indexes_of(view.terminating)))
    taken = merge(merge(view.succeeded_indexes, busy), view.failed_indexes or [])
    found: list[int] = []
    index = 0
    for first, last in [*taken, (view.spec["completions"], view.spec["completions"])]:
        while index < first and len(found) < wanted:
            found.append(index)
            index += 1
        if len(found) == wanted:
            break
        index = max(index, last + 1)
    return [one for one in found if one < view.spec["completions"]]


def may_release(view: JobView, pod: Object, verdict: Verdict | None) -> bool:
    """Return True when the pod's finalizer may be removed, because the pod is counted or need not be counted."""
    if is_deleting(view.job) or verdict is not None or pod_phase(pod) == "Succeeded":
        return True
    if not jobpods.is_pod_failed(view.job, pod):
        return False
    index = jobpods.index_of(pod)
    waiting = view.replaced.get(index) if view.per_index and index is not None else None
    return waiting is None or uid_of(waiting) != uid_of(pod)


def ready_count(pods: list[Object]) -> int:
    """Return how many of the pods are ready."""
    return sum(map(is_ready, pods))


def is_valid_success(view: JobView, pod: Object) -> bool:
    """Return True when the index of a succeeded pod has not succeeded before."""
    index = jobpods.valid_index(view.job, pod)
    return index is not None and not contains(view.known_indexes, index)
