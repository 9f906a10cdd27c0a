"""The next step of a Job, computed from the Job and its pods (cases of `job_controller_test.go`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hatchway.cluster.controllers import jobplan
from hatchway.cluster.controllers.jobplan import JobView
from hatchway.cluster.controllers.jobpods import FINALIZER, INDEX, Backoff, finished_at, judge_failure
from hatchway.cluster.controllers.jobtracking import JobTracking
from hatchway.cluster.controllers.jobttl import seconds_left
from hatchway.kube.api import Object

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(status: Object | None = None, **spec: Any) -> Object:
    wanted = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": {"spec": {"restartPolicy": "Never"}}}
    metadata = {"name": "j", "namespace": "d", "uid": "job"}
    return {"metadata": metadata, "spec": wanted | spec, "status": status or {}}


def pod(name: str, phase: str = "Running", index: int | None = None, **more: Any) -> Object:
    metadata = {"name": name, "namespace": "d", "uid": name, "finalizers": [FINALIZER], **more.get("metadata", {})}
    metadata["annotations"] = {**more.get("annotations", {}), **({} if index is None else {INDEX: str(index)})}
    ended = {"exitCode": more.get("code", 1), "finishedAt": stamp(more.get("ago", 0))}
    state = {"terminated": ended} if phase in ("Failed", "Succeeded") else {"running": {}}
    containers = [{"name": "c", "state": state, "restartCount": more.get("restarts", 0)}]
    status = {"phase": phase, "containerStatuses": containers, "conditions": more.get("conditions", [])}
    return {"metadata": metadata, "spec": {}, "status": status}


def stamp(ago: float) -> str:
    return (NOW - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def view(found: Object, *pods: Object, backoff: Backoff | None = None) -> JobView:
    return JobView(found, list(pods), backoff or Backoff(), NOW)


def planned(seen: JobView) -> tuple[int, int]:
    """Return the numbers of pods to create and to delete."""
    found = jobplan.plan(seen, jobplan.judge(seen))
    return len(found.create), len(found.delete)


@pytest.mark.parametrize(
    ("spec", "pods", "wanted"),
    [
        ({}, [], (1, 0)),
        ({"parallelism": 3, "completions": 5}, [], (3, 0)),
        ({"parallelism": 3, "completions": 2}, [], (2, 0)),
        ({"parallelism": 3, "completions": 5}, [pod("a"), pod("b"), pod("c"), pod("d")], (0, 1)),
        ({"parallelism": 3, "completions": 3}, [pod("a", "Succeeded"), pod("b", "Succeeded")], (1, 0)),
        # Without `completions`, one success is enough; the other pods end by themselves.
        ({"parallelism": 3, "completions": None}, [pod("a", "Succeeded"), pod("b")], (0, 0)),
        ({"parallelism": 3, "completions": None}, [pod("b")], (2, 0)),
        ({"suspend": True}, [pod("a")], (0, 1)),
        ({"parallelism": 0}, [], (0, 0)),
        # podReplacementPolicy decides when a pod is replaced: when its deletion begins, or when it has failed.
        ({}, [pod("a", metadata={"deletionTimestamp": stamp(100)})], (1, 0)),
        ({"podReplacementPolicy": "Failed"}, [pod("a", metadata={"deletionTimestamp": stamp(0)})], (0, 0)),
    ],
)
def test_numbers_of_pods(spec: dict[str, Any], pods: list[Object], wanted: tuple[int, int]) -> None:
    assert planned(view(job(**spec), *pods)) == wanted


def test_each_index_has_one_pod() -> None:
    indexed = job(completions=5, parallelism=3, completionMode="Indexed", status={"completedIndexes": "1"})
    twice = [pod("a", index=0), pod("b", index=0), pod("c", index=7), pod("d")]
    assert planned(view(indexed, *twice)) == (0, 3)
    seen = view(indexed, pod("a", index=0), pod("b", "Succeeded", index=2))
    assert jobplan.plan(seen, None).create == [3, 4]


def test_the_delay_after_failures_grows() -> None:
    failed = pod("a", "Failed", ago=3)
    assert jobplan.plan(view(job(), failed), None).again == 7
    assert jobplan.plan(view(job(), failed, backoff=Backoff(2, NOW)), None).again == 37
    assert planned(view(job(), pod("a", "Failed", ago=11))) == (1, 0)
    after_success = Backoff(5, NOW).after([pod("a", "Succeeded", ago=1)], [pod("b", "Failed", ago=5)])
    assert after_success == Backoff()


@pytest.mark.parametrize(
    ("spec", "pods", "reason"),
    [
        ({"backoffLimit": 0}, [pod("a", "Failed")], "BackoffLimitExceeded"),
        ({"backoffLimit": 1}, [pod("a", "Failed")], None),
        (
            {"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}},
            [pod("a", restarts=2)],
            "BackoffLimitExceeded",
        ),
        ({"activeDeadlineSeconds": 60, "suspend": False}, [pod("a")], None),
        (
            {"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 0, "maxFailedIndexes": 0},
            [pod("a", "Failed", index=0)],
            "MaxFailedIndexesExceeded",
        ),
        (
            {"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 0},
            [pod("a", "Failed", index=0), pod("b", "Succeeded", index=1)],
            "FailedIndexes",
        ),
        (
            {"completionMode": "Indexed", "completions": 4, "successPolicy": {"rules": [{"succeededIndexes": "0-1"}]}},
            [pod("a", "Succeeded", index=0), pod("b", "Succeeded", index=1)],
            "SuccessPolicy",
        ),
        (
            {
                "completionMode": "Indexed",
                "completions": 4,
                "successPolicy": {"rules": [{"succeededIndexes": "0-2", "succeededCount": 2}]},
            },
            [pod("a", "Succeeded", index=0), pod("b", "Succeeded", index=3)],
            None,
        ),
    ],
)
def test_reasons_that_end_a_job(spec: dict[str, Any], pods: list[Object], reason: str | None) -> None:
    verdict = jobplan.judge(view(job(**spec), *pods))
    assert (verdict.reason if verdict else None) == reason


def test_the_deadline() -> None:
    late = job(status={"startTime": stamp(61)}, activeDeadlineSeconds=60)
    verdict = jobplan.judge(view(late, pod("a")))
    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("FailureTarget", "DeadlineExceeded")
    assert jobplan.plan(view(late, pod("a")), verdict).release is False


def test_the_policy_for_failed_pods() -> None:
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 42]}},
    ]
    found = job(podFailurePolicy={"rules": rules}, backoffLimit=0)
    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    verdicts = [
        judge_failure(found, pod("a", "Failed", code=code, conditions=conditions))
        for code, conditions in ((42, []), (1, disrupted), (7, []), (1, []))
    ]
    assert [one.action for one in verdicts] == ["FailJob", "Ignore", "FailIndex", ""]
    assert verdicts[0].message == "Container c for pod d/a failed with exit code 42 matching FailJob rule at index 0"
    assert [one.counts for one in verdicts] == [True, False, True, True]
    assert jobplan.judge(view(found, pod("a", "Failed", conditions=disrupted))) is None
    verdict = jobplan.judge(view(found, pod("a", "Failed", code=42)))
    assert verdict is not None
    assert verdict.reason == "PodFailurePolicy"


def test_a_pod_is_counted_once_even_after_an_interruption() -> None:
    ended = [pod("a", "Succeeded"), pod("b", "Failed")]
    found = job(completions=3)
    for _ in range(2):
        # The controller was stopped after it wrote the status and before it removed the finalizers.
        tracking = JobTracking(view(found, *ended), None)
        assert tracking.count(NOW) == ended
        found["status"] = tracking.status
        assert found["status"]["uncountedTerminatedPods"] == {"succeeded": ["a"], "failed": ["b"]}
    assert view(found, *ended).succeeded == 1
    tracking = JobTracking(view(found), None)
    tracking.count(NOW)
    assert tracking.changed
    assert (tracking.status["succeeded"], tracking.status["failed"]) == (1, 1)
    assert tracking.status["uncountedTerminatedPods"] == {}


def test_the_last_condition_waits_for_the_last_pod() -> None:
    seen = view(job(), pod("a", "Succeeded"))
    tracking = JobTracking(seen, jobplan.judge(seen))
    tracking.observe(0, 0, 1)
    tracking.complete_if_done()
    tracking.count(NOW)
    assert [one["type"] for one in tracking.status["conditions"]] == ["SuccessCriteriaMet"]
    assert tracking.finish(NOW) is None
    tracking.count_released(())
    assert tracking.finish(NOW) is None
    tracking.observe(0, 0, 0)
    final = tracking.finish(NOW)
    assert final is not None
    assert final.kind == "Complete"
    assert tracking.status["completionTime"] == stamp(0)


def test_the_failed_pod_of_an_index_is_kept_until_its_replacement_exists() -> None:
    found = job(completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=3, backoffLimit=99)
    failed = pod("a", "Failed", index=0, ago=20)
    seen = view(found, failed, pod("b", index=1))
    assert not jobplan.may_release(seen, failed, None)
    assert jobplan.plan(seen, None).create == [0]
    replaced = view(found, failed, pod("b", index=1), pod("c", index=0))
    assert jobplan.may_release(replaced, failed, None)


def test_a_resumed_job_starts_again() -> None:
    found = job(status={"startTime": stamp(500), "conditions": [{"type": "Suspended", "status": "True"}]})
    tracking = JobTracking(view(found), None)
    assert tracking.note_suspension(NOW) == "Resumed"
    assert tracking.status["startTime"] == stamp(0)
    assert JobTracking(view(job()), None).note_suspension(NOW) == ""


def test_the_time_at_which_a_pod_ended() -> None:
    assert finished_at(pod("a", "Failed", ago=5)) == NOW - timedelta(seconds=5)
    deleted = pod("a", metadata={"deletionTimestamp": stamp(0), "deletionGracePeriodSeconds": 30})
    assert finished_at(deleted) == NOW - timedelta(seconds=30)


def test_finished_jobs_are_deleted_after_ttl_seconds() -> None:
    ended = {"type": "Failed", "status": "True", "lastTransitionTime": stamp(4)}
    assert seconds_left(job(status={"conditions": [ended]}, ttlSecondsAfterFinished=10), NOW) == 6
    assert seconds_left(job(status={"conditions": [ended]}), NOW) is None
    assert seconds_left(job(ttlSecondsAfterFinished=10), NOW) is None


def test_a_success_policy_with_very_many_indexes_is_quick() -> None:
    many = ",".join(str(one) for one in range(0, 26_000, 2))
    spec = {
        "completions": 100_000,
        "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": many}]},
    }
    odd = ",".join(str(one) for one in range(1, 99_999, 2))
    assert jobplan.judge(view(job(status={"completedIndexes": odd}, **spec))) is None
    verdict = jobplan.judge(view(job(status={"completedIndexes": "0-30000"}, **spec)))
    assert verdict is not None
    assert verdict.message == "Matched rules at index 0"
