"""Jobs with stock kubectl: run, wait, read logs, fail, suspend, delete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "jobs")
    yield "jobs"
    cluster.kubectl("delete", "namespace", "jobs", "--timeout=60s")


def job(name: str, script: str, policy: str = "Never", **spec: Any) -> str:
    container = {"name": "c", "image": "hatchway/host", "command": ["sh", "-c", script]}
    template = {"spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 1, "containers": [container]}}
    return json.dumps(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **spec}}
    )


def status(cluster: Cluster, name: str) -> Any:
    return json.loads(cluster.kubectl("get", "job", name, "-n", "jobs", "-o", "json"))["status"]


def pods(cluster: Cluster, name: str) -> list[Any]:
    found = cluster.kubectl("get", "pods", "-n", "jobs", "-l", f"job-name={name}", "-o", "json")
    return list(json.loads(found)["items"])


def test_a_job_runs_to_its_end(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl(
        "create", "job", "hello", "-n", namespace, "--image=hatchway/host", "--", "echo", "hello from a job"
    )
    cluster.kubectl("wait", "--for=condition=complete", "job/hello", "-n", namespace, "--timeout=60s")
    assert cluster.kubectl("logs", "job/hello", "-n", namespace) == "hello from a job\n"
    found = status(cluster, "hello")
    assert [one["type"] for one in found["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert (found["succeeded"], found["ready"], found["terminating"]) == (1, 0, 0)
    [pod] = pods(cluster, "hello")
    assert "finalizers" not in pod["metadata"]
    assert "1/1" in cluster.kubectl("get", "jobs", "hello", "-n", namespace)
    described = cluster.kubectl("describe", "job", "hello", "-n", namespace)
    assert "0 Active (0 Ready) / 1 Succeeded / 0 Failed" in described
    wait_for(lambda: "Job completed" in cluster.kubectl("describe", "job", "hello", "-n", namespace))
    cluster.kubectl("delete", "job", "hello", "-n", namespace)
    wait_for(lambda: not pods(cluster, "hello"))


def test_indexed_pods_know_their_index(cluster: Cluster, namespace: str) -> None:
    script = "echo $JOB_COMPLETION_INDEX $(hostname)"
    manifest = job("indexed", script, completions=3, parallelism=3, completionMode="Indexed")
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)
    cluster.kubectl("wait", "--for=condition=complete", "job/indexed", "-n", namespace, "--timeout=60s")
    assert status(cluster, "indexed")["completedIndexes"] == "0-2"
    said = sorted(cluster.kubectl("logs", pod["metadata"]["name"], "-n", namespace) for pod in pods(cluster, "indexed"))
    if cluster.run["private"]:
        assert said == [f"{index} indexed-{index}\n" for index in range(3)]
    assert [one.split()[0] for one in said] == ["0", "1", "2"]


def test_a_job_that_fails(cluster: Cluster, namespace: str) -> None:
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    for manifest in (
        job("fails", "exit 3", backoffLimit=0),
        job("restarts", "exit 3", "OnFailure", backoffLimit=1),
        job("policy", "exit 42", podFailurePolicy={"rules": rules}),
        job("late", "sleep 1000", activeDeadlineSeconds=1),
    ):
        cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)
    reasons = {}
    for name in ("fails", "restarts", "policy", "late"):
        cluster.kubectl("wait", "--for=condition=failed", f"job/{name}", "-n", namespace, "--timeout=60s")
        reasons[name] = status(cluster, name)["conditions"][-1]["reason"]
    assert reasons == {
        "fails": "BackoffLimitExceeded",
        "restarts": "BackoffLimitExceeded",
        "policy": "PodFailurePolicy",
        "late": "DeadlineExceeded",
    }
    assert status(cluster, "fails")["failed"] == 1


def test_suspend_and_resume(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=job("paused", "sleep 1000", suspend=True))
    cluster.kubectl("wait", "--for=condition=suspended", "job/paused", "-n", namespace, "--timeout=60s")
    assert pods(cluster, "paused") == []
    cluster.kubectl("patch", "job", "paused", "-n", namespace, "-p", '{"spec":{"suspend":false}}')
    wait_for(lambda: status(cluster, "paused").get("ready") == 1)
    cluster.kubectl("patch", "job", "paused", "-n", namespace, "-p", '{"spec":{"suspend":true}}')
    wait_for(lambda: not pods(cluster, "paused"))
    wait_for(lambda: "active" not in status(cluster, "paused"))
    events = cluster.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}")
    assert {"Suspended", "Resumed", "SuccessfulCreate", "SuccessfulDelete"} <= set(events.split())


def test_a_deleted_pod_of_a_job_is_counted_and_replaced(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=job("killed", "sleep 1000", backoffLimit=1))
    wait_for(lambda: status(cluster, "killed").get("ready") == 1)
    [first] = pods(cluster, "killed")
    cluster.kubectl("delete", "pod", first["metadata"]["name"], "-n", namespace)
    found = wait_for(
        lambda: [pod for pod in pods(cluster, "killed") if pod["metadata"]["uid"] != first["metadata"]["uid"]]
    )
    assert status(cluster, "killed")["failed"] == 1
    cluster.kubectl("delete", "pod", found[0]["metadata"]["name"], "-n", namespace)
    cluster.kubectl("wait", "--for=condition=failed", "job/killed", "-n", namespace, "--timeout=60s")


def test_a_finished_job_deletes_itself(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=job("brief", "true", ttlSecondsAfterFinished=0))
    cluster.kubectl("wait", "--for=delete", "job/brief", "-n", namespace, "--timeout=60s")
    wait_for(lambda: not pods(cluster, "brief"))


def test_pods_may_outlive_their_job(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=job("left", "true"))
    cluster.kubectl("wait", "--for=condition=complete", "job/left", "-n", namespace, "--timeout=60s")
    cluster.kubectl("delete", "job", "left", "-n", namespace, "--cascade=orphan")
    [pod] = pods(cluster, "left")
    assert "ownerReferences" not in pod["metadata"]


def test_immutable_fields_of_jobs(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=job("fixed", "true"))
    said = cluster.kubectl("patch", "job", "fixed", "-n", namespace, "-p", '{"spec":{"completions":5}}', check=False)
    assert "spec.completions: Invalid value: 5: field is immutable" in said
    said = cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=job("always", "true", "Always"), check=False)
    assert 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"' in said
