"""Disruption budgets and ReplicationControllers with stock kubectl: drain waits for a budget."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for

MANIFEST = """
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: budgeted}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: hatchway/host, command: [sleep, "1000"]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: budgeted}}}
"""


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "budgets")
    cluster.kubectl("apply", "-n", "budgets", "-f", "-", stdin=MANIFEST)
    yield "budgets"
    cluster.kubectl("delete", "namespace", "budgets", "--timeout=60s")


def get(cluster: Cluster, *what: str) -> Any:
    return json.loads(cluster.kubectl("get", *what, "-n", "budgets", "-o", "json"))


def test_an_eviction_waits_for_the_budget(cluster: Cluster, namespace: str) -> None:
    wait_for(lambda: get(cluster, "pdb", "web")["status"]["currentHealthy"] == 2)
    assert get(cluster, "rc", "web")["spec"]["selector"] == {"app": "budgeted"}
    pod = get(cluster, "pods", "-l", "app=budgeted")["items"][0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    manifest = json.dumps(eviction)
    said = cluster.kubectl("create", "--raw", path, "-f", "-", stdin=manifest, check=False)
    assert "Cannot evict pod as it would violate the pod's disruption budget." in said
    cluster.kubectl("patch", "pdb", "web", "-n", namespace, "--type=merge", "-p", '{"spec":{"minAvailable":1}}')
    wait_for(lambda: get(cluster, "pdb", "web")["status"]["disruptionsAllowed"] == 1)
    assert "Success" in cluster.kubectl("create", "--raw", path, "-f", "-", stdin=manifest)
    wait_for(lambda: pod not in [one["metadata"]["name"] for one in get(cluster, "pods")["items"]])
    wait_for(lambda: get(cluster, "pdb", "web")["status"]["currentHealthy"] == 2)
    assert "ALLOWED DISRUPTIONS" in cluster.kubectl("get", "pdb", "-n", namespace)
    assert "Allowed disruptions:  1" in cluster.kubectl("describe", "pdb", "web", "-n", namespace)


def test_drain_and_scale(cluster: Cluster, namespace: str) -> None:
    node = get(cluster, "pods", "-l", "app=budgeted")["items"][0]["spec"]["nodeName"]
    selector = "--pod-selector=app=budgeted"
    said = cluster.kubectl("drain", node, selector, "--timeout=60s", "--ignore-daemonsets", "--delete-emptydir-data")
    assert f"node/{node} drained" in said
    cluster.kubectl("uncordon", node)
    cluster.kubectl("scale", "rc/web", "--replicas=3", "-n", namespace)
    wait_for(lambda: get(cluster, "rc", "web")["status"].get("readyReplicas") == 3)
    scale = json.loads(
        cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/replicationcontrollers/web/scale")
    )
    assert scale["status"] == {"replicas": 3, "selector": "app=budgeted"}
    cluster.kubectl("delete", "rc", "web", "-n", namespace)
    wait_for(lambda: not get(cluster, "pods", "-l", "app=budgeted")["items"])
