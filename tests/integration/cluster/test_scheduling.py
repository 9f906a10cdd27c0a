"""Priorities, spreading and draining with stock kubectl.

The pods compete for a port of the node. Pods of other tests do not use it, so none of them is preempted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import Cluster, wait_for

NAMESPACE = "scheduling"
CLASS = """
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: scheduling-test-high}
value: 1000
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  %s
  terminationGracePeriodSeconds: 1
  nodeSelector: {kubernetes.io/hostname: node-1}
  containers:
  - {name: c, image: hatchway/echo, ports: [{containerPort: 8080, hostPort: 18643}]}
"""
SPREAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 4
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node-1, node-2]}]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: spread}}
      containers: [{name: c, image: hatchway/echo}]
"""


@pytest.fixture(scope="module", autouse=True)
def namespace(cluster: Cluster) -> Iterator[None]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "-f", "-", stdin=CLASS)
    yield
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
    cluster.kubectl("delete", "priorityclass", "scheduling-test-high")


def jsonpath(cluster: Cluster, path: str, *what: str) -> str:
    return cluster.kubectl("get", *what, "-n", NAMESPACE, "-o", f"jsonpath={path}")


def messages(cluster: Cluster, pod: str, reason: str) -> list[str]:
    found = json.loads(cluster.kubectl("get", "events", "-n", NAMESPACE, "-o", "json"))["items"]
    return [one["message"] for one in found if one["involvedObject"]["name"] == pod and one["reason"] == reason]


def test_a_more_important_pod_takes_the_place_of_another_one(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=POD % ("low", ""))
    cluster.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/low", "--timeout=60s")
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=POD % ("same", ""))
    wait_for(lambda: messages(cluster, "same", "FailedScheduling"))
    [why] = messages(cluster, "same", "FailedScheduling")
    assert "1 node(s) didn't have free ports for the requested pod ports" in why
    assert "1 No preemption victims found for incoming pod" in why
    high = POD % ("high", "priorityClassName: scheduling-test-high")
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=high)
    cluster.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/high", "--timeout=60s")
    assert jsonpath(cluster, "{.spec.priority} {.status.nominatedNodeName}", "pod", "high") == "1000 node-1"
    wait_for(lambda: messages(cluster, "low", "Preempted"))
    uid = jsonpath(cluster, "{.metadata.uid}", "pod", "high")
    assert messages(cluster, "low", "Preempted") == [f"Preempted by pod {uid} on node node-1"]
    assert "low" not in jsonpath(cluster, "{.items[*].metadata.name}", "pods").split()
    assert jsonpath(cluster, "{.status.phase}", "pod", "same") == "Pending"
    assert "Priority Class Name:  scheduling-test-high" in cluster.kubectl("describe", "pod", "high", "-n", NAMESPACE)


def _nodes(cluster: Cluster) -> Counter[str]:
    path = "{range .items[?(@.status.phase=='Running')]}{.spec.nodeName} {end}"
    return Counter(jsonpath(cluster, path, "pods", "-l", "app=spread").split())


def test_replicas_are_spread_and_come_back_after_a_drain(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=SPREAD)
    wait_for(lambda: _nodes(cluster) == {"node-1": 2, "node-2": 2})
    try:
        cluster.kubectl("drain", "node-2", "--pod-selector=app=spread", "--timeout=60s")
        # The empty, cordoned node still counts for the spread, so the pods may not go to the other node.
        wait_for(lambda: _nodes(cluster) == {"node-1": 2})
        conditions = "{.items[*].status.conditions[?(@.type=='PodScheduled')].message}"
        reason = "1 node(s) were unschedulable"
        wait_for(lambda: reason in jsonpath(cluster, conditions, "pods", "-l", "app=spread"))
        assert "1 node(s) didn't match pod topology spread constraints" in jsonpath(
            cluster, conditions, "pods", "-l", "app=spread"
        )
    finally:
        cluster.kubectl("uncordon", "node-2")
    wait_for(lambda: _nodes(cluster) == {"node-1": 2, "node-2": 2})


def test_describe_node_shows_the_allocated_resources(cluster: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asks"},
        "spec": {
            "nodeName": "node-2",
            "containers": [{"name": "c", "image": "hatchway/echo", "resources": {"requests": {"cpu": "150m"}}}],
        },
    }
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/asks", "--timeout=60s")
    lines = cluster.kubectl("describe", "node", "node-2").splitlines()
    mine = next(line.split() for line in lines if line.split()[:2] == [NAMESPACE, "asks"])
    assert mine[2] == "150m"
    cluster.kubectl("delete", "pod", "asks", "-n", NAMESPACE)
