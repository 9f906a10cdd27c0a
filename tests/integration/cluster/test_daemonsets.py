"""DaemonSets with stock kubectl: one pod a node, taints, rollouts and their undoing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for

MANIFEST = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: hatchway/host
        command: [sleep, "1000"]
        env: [{name: VERSION, value: one}]
"""


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "daemons")
    cluster.kubectl("apply", "-n", "daemons", "-f", "-", stdin=MANIFEST)
    cluster.kubectl("rollout", "status", "daemonset/agent", "-n", "daemons", "--timeout=60s")
    yield "daemons"
    cluster.kubectl("delete", "namespace", "daemons", "--timeout=60s")


def pods(cluster: Cluster) -> list[Any]:
    found = cluster.kubectl("get", "pods", "-n", "daemons", "-l", "app=agent", "-o", "json")
    return [pod for pod in json.loads(found)["items"] if "deletionTimestamp" not in pod["metadata"]]


def workers(cluster: Cluster) -> list[str]:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    return sorted(node["metadata"]["name"] for node in nodes if not node["spec"].get("taints"))


def places(cluster: Cluster) -> list[str]:
    return sorted(pod["spec"].get("nodeName", "") for pod in pods(cluster))


def test_every_node_has_one(cluster: Cluster, namespace: str) -> None:
    assert places(cluster) == workers(cluster)
    status = json.loads(cluster.kubectl("get", "ds", "agent", "-n", namespace, "-o", "json"))["status"]
    assert status["numberReady"] == status["desiredNumberScheduled"] == len(workers(cluster))
    assert "SuccessfulCreate" in wait_for(lambda: cluster.kubectl("describe", "ds", "agent", "-n", namespace))
    [first, *_] = pods(cluster)
    cluster.kubectl("delete", "pod", first["metadata"]["name"], "-n", namespace)
    wait_for(lambda: places(cluster) == workers(cluster))


def test_a_label_decides_which_nodes(cluster: Cluster, namespace: str) -> None:
    patch = '{"spec":{"template":{"spec":{"nodeSelector":{"agent":"yes"}}}}}'
    cluster.kubectl("patch", "ds", "agent", "-n", namespace, "-p", patch)
    wait_for(lambda: places(cluster) == [])
    last = workers(cluster)[-1]
    cluster.kubectl("label", "node", last, "agent=yes")
    wait_for(lambda: places(cluster) == [last])
    cluster.kubectl("label", "node", last, "agent-")
    wait_for(lambda: places(cluster) == [])
    cluster.kubectl("rollout", "undo", "ds/agent", "-n", namespace)
    cluster.kubectl("rollout", "status", "ds/agent", "-n", namespace, "--timeout=60s")
    assert places(cluster) == workers(cluster)


def test_a_rollout(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("set", "env", "ds/agent", "VERSION=two", "-n", namespace)
    cluster.kubectl("rollout", "status", "ds/agent", "-n", namespace, "--timeout=60s")
    versions = [pod["spec"]["containers"][0]["env"][0]["value"] for pod in pods(cluster)]
    assert versions == ["two"] * len(workers(cluster))
    history = cluster.kubectl("rollout", "history", "ds/agent", "-n", namespace)
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["2", "3", "4"]
