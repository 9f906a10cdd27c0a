"""CronJobs with stock kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for

CRON_JOB = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "@every 1s"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: c, image: hatchway/host, command: [echo, tick]}]
"""


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "cron")
    yield "cron"
    cluster.kubectl("delete", "namespace", "cron", "--timeout=60s")


def jobs(cluster: Cluster) -> list[Any]:
    return list(json.loads(cluster.kubectl("get", "jobs", "-n", "cron", "-o", "json"))["items"])


def test_a_cron_job_starts_jobs_by_schedule_and_by_hand(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=CRON_JOB)
    [first, *_] = wait_for(lambda: jobs(cluster))
    name = first["metadata"]["name"]
    assert name.startswith("tick-")
    assert first["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
    cluster.kubectl("wait", "--for=condition=complete", f"job/{name}", "-n", namespace, "--timeout=60s")
    assert cluster.kubectl("logs", f"job/{name}", "-n", namespace) == "tick\n"
    shown = wait_for(lambda: "Saw completed job" in (text := described(cluster)) and text)
    assert f"Created job {name}" in shown
    assert "Europe/Berlin" in cluster.kubectl("get", "cronjob", "tick", "-n", namespace)
    cluster.kubectl("patch", "cronjob", "tick", "-n", namespace, "-p", '{"spec":{"suspend":true}}')
    cluster.kubectl("create", "job", "by-hand", "--from=cronjob/tick", "-n", namespace)
    cluster.kubectl("wait", "--for=condition=complete", "job/by-hand", "-n", namespace, "--timeout=60s")
    status = json.loads(cluster.kubectl("get", "cronjob", "tick", "-n", namespace, "-o", "json"))["status"]
    assert status["lastScheduleTime"] <= status["lastSuccessfulTime"]
    cluster.kubectl("delete", "cronjob", "tick", "-n", namespace)
    wait_for(lambda: not jobs(cluster))


def described(cluster: Cluster) -> str:
    return cluster.kubectl("describe", "cronjob", "tick", "-n", "cron")


def test_an_invalid_schedule_is_refused(cluster: Cluster, namespace: str) -> None:
    said = cluster.kubectl(
        "create", "cronjob", "bad", "-n", namespace, "--image=hatchway/host", "--schedule=61 * * * *", check=False
    )
    assert 'spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61' in said
