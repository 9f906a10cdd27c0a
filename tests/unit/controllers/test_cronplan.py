"""The times at which a CronJob starts a Job (cases of `cronjob_controllerv2_test.go`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hatchway.cluster.controllers.cronplan import CronPlan, plan_cron, started_status
from hatchway.kube.api import Object

NOW = datetime(2026, 5, 19, 10, 0, 30, tzinfo=UTC)


def stamp(ago: float) -> str:
    return (NOW - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def cron(schedule: str = "0 * * * *", *, ago: float = 3600, status: Object | None = None, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}
    metadata = {"name": "c", "namespace": "d", "uid": "cron", "creationTimestamp": stamp(ago)}
    wanted = {"schedule": schedule, "concurrencyPolicy": "Allow", "suspend": False, "jobTemplate": template}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata,
        "spec": wanted | spec,
        "status": status or {},
    }


def job(name: str, ended: str = "", ago: float = 100) -> Object:
    status: Object = {"startTime": stamp(ago)}
    if ended:
        status["conditions"] = [{"type": ended, "status": "True"}]
    if ended == "Complete":
        status["completionTime"] = stamp(ago - 1)
    return {"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {}, "status": status}


def reasons(plan: CronPlan) -> list[str]:
    return [reason for _, reason, _ in plan.events]


def active(*jobs: Object) -> Object:
    return {"active": [{"name": one["metadata"]["name"], "uid": one["metadata"]["uid"]} for one in jobs]}


def test_a_run_that_is_due() -> None:
    plan = plan_cron(cron(), [], NOW)
    assert plan.create is not None
    assert plan.moment == NOW.replace(second=0)
    minutes = int(NOW.timestamp()) // 60
    assert plan.create["metadata"]["name"] == f"c-{minutes}"
    assert plan.create["metadata"]["labels"] == {"a": "b"}
    annotations = plan.create["metadata"]["annotations"]
    assert annotations == {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-05-19T10:00:00Z"}
    assert plan.again == pytest.approx(3570.1)
    made = {"metadata": {"name": "c-1", "namespace": "d", "uid": "u", "resourceVersion": "7"}}
    status = started_status(plan.status, made, plan.moment)
    assert status["lastScheduleTime"] == "2026-05-19T10:00:00Z"
    again = plan_cron(cron(status=status), [{**job("c-1"), "metadata": made["metadata"]}], NOW)
    assert again.create is None
    assert again.events == []


def test_the_time_zone_shifts_the_run() -> None:
    plan = plan_cron(cron("0 19 * * *", timeZone="Asia/Tokyo"), [], NOW)
    assert plan.create is not None
    annotations = plan.create["metadata"]["annotations"]
    assert annotations == {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-05-19T19:00:00+09:00"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (cron(ago=20), []),
        (cron(suspend=True), []),
        (cron(startingDeadlineSeconds=10), []),
        (cron("nope"), ["UnparseableSchedule"]),
        (cron("0 0 31 2 *"), ["InvalidSchedule"]),
        (cron(timeZone="Nowhere/City"), ["UnknownTimeZone"]),
        (cron(status=active(job("x")), concurrencyPolicy="Forbid"), ["JobAlreadyActive"]),
    ],
)
def test_no_run(given: Object, wanted: list[str]) -> None:
    plan = plan_cron(given, [job("x")] if given["status"] else [], NOW)
    assert plan.create is None
    assert reasons(plan) == wanted


def test_many_missed_runs_start_one_job() -> None:
    plan = plan_cron(cron("* * * * *", ago=101 * 60 + 31), [], NOW)
    assert plan.moment == NOW.replace(second=0)
    assert reasons(plan) == ["TooManyMissedTimes"]
    assert reasons(plan_cron(cron("* * * * *", ago=3600), [], NOW)) == []


def test_replace() -> None:
    plan = plan_cron(cron(status=active(job("x")), concurrencyPolicy="Replace"), [job("x")], NOW)
    assert [one["metadata"]["name"] for one in plan.replaced] == ["x"]
    assert plan.create is not None
    assert "active" not in plan.status


def test_ended_missing_and_unexpected_jobs() -> None:
    ended, running = job("ended", "Complete"), job("running")
    plan = plan_cron(cron(status=active(ended, running, job("lost")), suspend=True), [ended, running, job("new")], NOW)
    assert reasons(plan) == ["SawCompletedJob", "UnexpectedJob", "MissingJob"]
    assert [one["name"] for one in plan.status["active"]] == ["running"]
    assert plan.status["lastSuccessfulTime"] == stamp(99)


def test_the_history_keeps_the_newest_jobs() -> None:
    jobs = [job(f"ok-{age}", "Complete", age) for age in (50, 10, 30)] + [job("bad", "Failed"), job("runs")]
    given = cron(suspend=True, successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    plan = plan_cron(given, jobs, NOW)
    assert [one["metadata"]["name"] for one in plan.old] == ["ok-50", "ok-30", "bad"]
