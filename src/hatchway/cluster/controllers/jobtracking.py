"""The new status of one Job during a reconcile (`trackJobStatusAndRemoveFinalizers`)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hatchway.cluster.controllers import jobplan, jobpods
from hatchway.cluster.controllers.jobplan import JobView, Verdict
from hatchway.cluster.controllers.objectfields import clone, pod_phase, timestamp, uid_of
from hatchway.cluster.jobindexes import count, format_intervals, merge, single
from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition

# At most this many pods are counted in one reconcile, so that the status stays small (MaxUncountedPods).
MOST_UNCOUNTED = 500
_REACHED = "Reached expected number of succeeded pods"


class JobTracking:
    """The new status of a Job. A reconcile calls `observe`, `count`, `count_released` and `finish`, in this order.

    changed: True if the status must be written.
    """

    def __init__(self, view: JobView, verdict: Verdict | None) -> None:
        self.view = view
        self.verdict = verdict
        self.changed = False
        self.status: Object = clone(view.status)
        self._uncounted = self.status.setdefault("uncountedTerminatedPods", {})
        self._full = False
        if view.start is not None and not self.status.get("startTime"):
            self.status["startTime"] = timestamp(view.start)

    def observe(self, active: int, ready: int, terminating: int) -> None:
        """Set the numbers of pods, which already include the pods that this reconcile has created and deleted."""
        for key, value in (("active", active), ("ready", ready), ("terminating", terminating)):
            if self.status.get(key, 0 if key == "active" else None) != value:
                self.changed = True
            self.status[key] = value
        if not active:
            del self.status["active"]

    def complete_if_done(self) -> None:
        """Decide that the Job is complete when enough pods have succeeded and none runs."""
        wanted = self.view.spec.get("completions")
        enough = self.view.succeeded > 0 if wanted is None else self.view.succeeded >= wanted
        if enough and not self.status.get("active"):
            self.verdict = Verdict("SuccessCriteriaMet", "CompletionsReached", _REACHED)

    def note_suspension(self, now: datetime) -> str:
        """Set the condition Suspended. Return the reason for the Event; "" when nothing changed."""
        suspended = self.view.suspended
        text = ("JobSuspended", "Job suspended") if suspended else ("JobResumed", "Job resumed")
        if not self._set_condition("Suspended", "True" if suspended else "False", *text, now):
            return ""
        self.changed = True
        if not suspended:
            # The deadline counts the time since the Job was resumed.
            self.status["startTime"] = timestamp(now)
        return "Suspended" if suspended else "Resumed"

    def count(self, now: datetime) -> list[Object]:
        """Add the pods that have ended to the status. Return the pods whose finalizer must be removed next."""
        view, found, new_indexes = self.view, list[Object](), list[int]()
        tracked = [pod for pod in view.pods if jobpods.is_tracked(pod)]
        self.count_released(uid_of(pod) for pod in tracked)
        if view.indexed:
            tracked.sort(key=lambda pod: -1 if (index := jobpods.index_of(pod)) is None else index)
        for pod in tracked:
            if not jobplan.may_release(view, pod, self.verdict):
                continue
            found.append(pod)
            if pod_phase(pod) == "Succeeded" and uid_of(pod) not in view.failed_uids:
                self._count_success(pod, new_indexes)
            elif jobpods.is_pod_failed(view.job, pod) or (
                self.verdict is not None and self.verdict.kind != "SuccessCriteriaMet"
            ):
                self._count_failure(pod)
            uncounted = sum(len(self._uncounted.get(key) or ()) for key in ("succeeded", "failed"))
            if len(new_indexes) + uncounted >= MOST_UNCOUNTED:
                self._full = True
                break
        if view.indexed:
            self._set_indexes(new_indexes)
        self._note_verdict(now)
        return found

    def _count_success(self, pod: Object, new_indexes: list[int]) -> None:
        if self.view.indexed:
            # The pod's uid need not be noted: because of its index, it is not counted twice.
            if jobplan.is_valid_success(self.view, pod):
                new_indexes.append(jobpods.valid_index(self.view.job, pod) or 0)
                self.changed = True
        elif uid_of(pod) not in self.view.succeeded_uids:
            self._add_uncounted("succeeded", pod)

    def _count_failure(self, pod: Object) -> None:
        view = self.view
        if uid_of(pod) in view.failed_uids or (view.indexed and jobpods.valid_index(view.job, pod) is None):
            return
        if jobpods.judge_failure(view.job, pod).counts:
            self._add_uncounted("failed", pod)

    def _add_uncounted(self, key: str, pod: Object) -> None:
        self._uncounted.setdefault(key, []).append(uid_of(pod))
        self.changed = True

    def _set_indexes(self, new: list[int]) -> None:
        succeeded = merge(self.view.known_indexes, single(new))
        texts = {"completedIndexes": format_intervals(succeeded)}
        if self.view.failed_indexes is not None:
            texts["failedIndexes"] = format_intervals(self.view.failed_indexes)
        for key, text in texts.items():
            if self.status.get(key, "" if key == "completedIndexes" else None) != text:
                self.status[key] = text
                self.changed = True
        if not texts["completedIndexes"]:
            self.status.pop("completedIndexes", None)
        self._set_counter("succeeded", count(succeeded))

    def _set_counter(self, key: str, value: int) -> None:
        self.status[key] = value
        if not value:
            del self.status[key]

    def _note_verdict(self, now: datetime) -> None:
        """Add the interim condition, which is written before the finalizers are removed."""
        verdict = self.verdict
        if verdict is not None and self._set_condition(verdict.kind, "True", verdict.reason, verdict.message, now):
            self.changed = True

    def count_released(self, tracked: Iterable[str]) -> None:
        """Add uncounted pods without the finalizer to the counters. tracked: uids of pods that still have it."""
        left = set(tracked)
        for key in ("succeeded", "failed"):
            uids = self._uncounted.get(key) or []
            kept = [uid for uid in uids if uid in left]
            if len(kept) == len(uids):
                continue
            self.changed = True
            self.status[key] = self.status.get(key, 0) + len(uids) - len(kept)
            self._uncounted[key] = kept
            if not kept:
                del self._uncounted[key]

    def finish(self, now: datetime) -> Verdict | None:
        """Add the final condition once every pod is counted and has ended. Return the condition, or None."""
        if self.verdict is None or self._full or any(self._uncounted.values()) or self.status.get("terminating"):
            return None
        final = "Complete" if self.verdict.kind == "SuccessCriteriaMet" else "Failed"
        self._set_condition(final, "True", self.verdict.reason, self.verdict.message, now)
        if final == "Complete":
            self.status["completionTime"] = timestamp(now)
        self.changed = True
        return Verdict(final, self.verdict.reason, self.verdict.message)

    def _set_condition(self, kind: str, status: str, reason: str, message: str, now: datetime) -> bool:
        """Set a condition. Return False when nothing changed. A condition that does not exist is not set to False."""
        wanted = {"type": kind, "status": status, "reason": reason, "message": message}
        conditions = self.status.setdefault("conditions", [])
        old = get_condition({"status": self.status}, kind)
        if old is None and status == "False":
            if not conditions:
                del self.status["conditions"]
            return False
        if old is not None and all(old.get(key, "") == value for key, value in wanted.items()):
            return False
        moment = timestamp(now)
        new = {"type": kind, "status": status, "lastProbeTime": moment, "lastTransitionTime": moment}
        new |= {key: wanted[key] for key in ("reason", "message") if wanted[key]}
        self.status["conditions"] = (
            [one for one in conditions if one is not old] + [new]
            if old is None
            else [new if one is old else one for one in conditions]
        )
        return True
