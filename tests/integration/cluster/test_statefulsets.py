"""StatefulSets with stock kubectl: order, names in the cluster's DNS, rollouts and their undoing, scaling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: db}
  ports: [{port: 80, name: http}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: hatchway/host
        command: [sh, -c, 'hostname; exec sleep 1000']
        env: [{name: VERSION, value: one}]
"""


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "stateful")
    cluster.kubectl("apply", "-n", "stateful", "-f", "-", stdin=MANIFEST)
    cluster.kubectl("rollout", "status", "statefulset/db", "-n", "stateful", "--timeout=60s")
    yield "stateful"
    cluster.kubectl("delete", "namespace", "stateful", "--timeout=60s")


def pods(cluster: Cluster) -> dict[str, Any]:
    found = json.loads(cluster.kubectl("get", "pods", "-n", "stateful", "-l", "app=db", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod for pod in found}


def version(cluster: Cluster, name: str) -> str:
    return str(pods(cluster)[name]["spec"]["containers"][0]["env"][0]["value"])


def test_pods_have_names_and_addresses_in_dns(cluster: Cluster, namespace: str) -> None:
    found = pods(cluster)
    assert sorted(found) == ["db-0", "db-1"]
    assert found["db-0"]["metadata"]["creationTimestamp"] <= found["db-1"]["metadata"]["creationTimestamp"]
    assert "2/2" in cluster.kubectl("get", "sts", "db", "-n", namespace)
    if not cluster.run["private"]:
        return
    assert cluster.kubectl("logs", "db-1", "-n", namespace) == "db-1\n"
    script = "import socket; print(socket.gethostbyname('db-0.db'))"

    def resolved() -> bool:
        said = cluster.kubectl("exec", "db-1", "-n", namespace, "--", "python3", "-c", script, check=False)
        return said.strip() == pods(cluster)["db-0"]["status"]["podIP"]

    wait_for(resolved)


def test_a_deleted_pod_comes_back_with_its_name(cluster: Cluster, namespace: str) -> None:
    before = pods(cluster)["db-0"]["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "db-0", "-n", namespace)
    cluster.kubectl("rollout", "status", "statefulset/db", "-n", namespace, "--timeout=60s")
    wait_for(lambda: pods(cluster).get("db-0", {}).get("metadata", {}).get("uid") not in (None, before))
    described = cluster.kubectl("describe", "sts", "db", "-n", namespace)
    assert "create Pod db-0 in StatefulSet db successful" in described


def test_a_rollout_with_a_partition_and_its_undoing(cluster: Cluster, namespace: str) -> None:
    patch = '{"spec":{"updateStrategy":{"rollingUpdate":{"partition":1}}}}'
    cluster.kubectl("patch", "sts", "db", "-n", namespace, "-p", patch)
    cluster.kubectl("set", "env", "sts/db", "VERSION=two", "-n", namespace)
    said = cluster.kubectl("rollout", "status", "sts/db", "-n", namespace, "--timeout=60s")
    assert "partitioned roll out complete: 1 new pods have been updated" in said
    assert (version(cluster, "db-0"), version(cluster, "db-1")) == ("one", "two")
    patch = '{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}'
    cluster.kubectl("patch", "sts", "db", "-n", namespace, "-p", patch)
    wait_for(lambda: "db-0" in pods(cluster) and version(cluster, "db-0") == "two")
    cluster.kubectl("rollout", "status", "sts/db", "-n", namespace, "--timeout=60s")
    history = cluster.kubectl("rollout", "history", "sts/db", "-n", namespace).splitlines()
    assert [line.split()[0] for line in history if line[:1].isdigit()] == ["1", "2"]
    cluster.kubectl("rollout", "undo", "sts/db", "-n", namespace)
    cluster.kubectl("rollout", "status", "sts/db", "-n", namespace, "--timeout=60s")
    wait_for(lambda: [version(cluster, name) for name in sorted(pods(cluster))] == ["one", "one"])
    assert "statefulset.apps/db" in cluster.kubectl("get", "controllerrevisions", "-n", namespace)
    # Clients compare a revision's data with a template byte for byte, so the order of keys must be Go's.
    found = json.loads(cluster.kubectl("get", "--raw", f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"))
    assert found["items"]
    for one in found["items"]:
        assert json.dumps(one["data"]) == json.dumps(one["data"], sort_keys=True)


def test_scaling_goes_from_the_last_one(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("scale", "sts/db", "--replicas=3", "-n", namespace)
    cluster.kubectl("rollout", "status", "sts/db", "-n", namespace, "--timeout=60s")
    assert sorted(pods(cluster)) == ["db-0", "db-1", "db-2"]
    cluster.kubectl("scale", "sts/db", "--replicas=1", "-n", namespace)
    wait_for(lambda: sorted(pods(cluster)) == ["db-0"])
