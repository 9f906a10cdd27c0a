"""Metrics of a real cluster with stock kubectl: `top`, autoscalers, the aggregated API, kube-state-metrics."""

from __future__ import annotations

import json
import time

import pytest

from tests.conftest import Cluster

ROOT = "/apis/metrics.k8s.io/v1beta1"
LEAST = {"nodes": 3, "pods": 2}


@pytest.fixture(scope="module")
def measured(cluster: Cluster) -> Cluster:
    """Return the cluster once there are metrics of its own pods, a few seconds after its start."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # The pods of kube-dns and of the metrics server always run.
        found = [(cluster.get(f"{ROOT}/{kind}", token=cluster.token()), least) for kind, least in LEAST.items()]
        if all(answer.status == 200 and len(answer.json["items"]) >= least for answer, least in found):
            return cluster
        time.sleep(0.2)
    raise AssertionError("the cluster's pods have no metrics after a minute")


def test_top_shows_nodes_and_pods(measured: Cluster) -> None:
    rows = [line.split() for line in measured.kubectl("top", "nodes", "--no-headers").splitlines()]
    assert sorted(row[0] for row in rows) == ["control-plane", "node-1", "node-2"]
    for _, cpu, percent, memory, _ in rows:
        assert cpu.endswith("m") and percent.endswith("%") and int(memory.removesuffix("Mi")) > 0
    rows = [line.split() for line in measured.kubectl("top", "pods", "-n", "kube-system", "--no-headers").splitlines()]
    names = {row[0].rsplit("-", 2)[0]: row for row in rows}
    assert {"kube-dns", "metrics-server"} <= set(names)
    # A Python program uses between ten and five hundred megabytes.
    assert 10 < int(names["kube-dns"][2].removesuffix("Mi")) < 500


def test_top_selects_and_sorts(measured: Cluster) -> None:
    text = measured.kubectl(
        "top",
        "pods",
        "-A",
        "--containers",
        "--sort-by=memory",
        "-l",
        "k8s-app in (kube-dns,metrics-server)",
        "--no-headers",
    )
    rows = [line.split() for line in text.splitlines()]
    assert {(row[0], row[2]) for row in rows} == {("kube-system", "dns"), ("kube-system", "metrics-server")}
    sizes = [int(row[4].removesuffix("Mi")) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_the_api_service_is_available(measured: Cluster) -> None:
    text = measured.kubectl("get", "apiservices", "v1beta1.metrics.k8s.io", "v1.apps", "--no-headers")
    assert [line.split()[:3] for line in text.splitlines()] == [
        ["v1beta1.metrics.k8s.io", "kube-system/metrics-server", "True"],
        ["v1.apps", "Local", "True"],
    ]
    assert "metrics.k8s.io/v1beta1" in measured.kubectl("api-versions").split()
    assert "PodMetrics" in measured.kubectl("explain", "podmetrics")
    header = measured.kubectl("get", "podmetrics", "-n", "kube-system").splitlines()[0]
    assert header.split() == ["NAME", "CPU", "MEMORY", "WINDOW"]


def test_metrics_need_rights(measured: Cluster) -> None:
    may = ("auth", "can-i", "list", "pods.metrics.k8s.io", "-n", "kube-system", "--as=somebody")
    assert measured.kubectl(*may, check=False).strip() == "no"
    reader = ("create", "rolebinding", "metrics-reader", "--clusterrole=view", "--user=somebody", "-n", "kube-system")
    measured.kubectl(*reader)
    try:
        assert measured.kubectl(*may).strip() == "yes"
        assert "kube-dns" in measured.kubectl("top", "pods", "-n", "kube-system", "--as=somebody")
    finally:
        measured.kubectl("delete", "rolebinding", "metrics-reader", "-n", "kube-system")


def test_the_metrics_server_refuses_requests_that_bypass_aggregation(measured: Cluster) -> None:
    service = "/api/v1/namespaces/kube-system/services/https:metrics-server:https/proxy"
    answer = measured.get(f"{service}{ROOT}/nodes", token=measured.token())
    assert (answer.status, answer.json["reason"]) == (401, "Unauthorized")
    assert "kubectl top nodes" in measured.get(f"{service}/", token=measured.token()).text


def test_the_state_of_objects_is_there(measured: Cluster) -> None:
    service = measured.kubectl("get", "service", "kube-state-metrics", "-n", "kube-system", "-o", "json")
    annotations = json.loads(service)["metadata"]["annotations"]
    assert (annotations["prometheus.io/scrape"], annotations["prometheus.io/port"]) == ("true", "8080")
    path = "/api/v1/namespaces/kube-system/services/kube-state-metrics:http-metrics/proxy/metrics"
    text = measured.get(path, token=measured.token()).text
    assert 'kube_deployment_status_replicas_available{namespace="kube-system",deployment="kube-dns"} 1\n' in text
    assert 'kube_node_status_condition{node="node-1",condition="Ready",status="true"} 1\n' in text
    assert 'kube_namespace_status_phase{namespace="kube-system",phase="Active"} 1\n' in text


def test_an_autoscaler_of_kubectl(measured: Cluster) -> None:
    measured.kubectl("create", "namespace", "scaled")
    try:
        measured.kubectl("create", "deployment", "web", "--image=hatchway/echo", "-n", "scaled")
        measured.kubectl("autoscale", "deployment", "web", "--min=2", "--max=4", "--cpu-percent=50", "-n", "scaled")
        # Each load exceeds the target below, so the maximum is reached at once.
        wait = ("wait", "--for=jsonpath={.spec.replicas}=2", "deployment/web", "-n", "scaled", "--timeout=60s")
        measured.kubectl(*wait)
        row = measured.kubectl("get", "hpa", "web", "-n", "scaled", "--no-headers").split()
        assert row[:2] == ["web", "Deployment/web"] and row[-4:-2] == ["2", "4"]
        events = measured.kubectl("events", "-n", "scaled", "--for", "hpa/web")
        assert "New size: 2; reason: Current number of replicas below Spec.MinReplicas" in events
        old = measured.kubectl("get", "--raw", "/apis/autoscaling/v1/namespaces/scaled/horizontalpodautoscalers/web")
        assert json.loads(old)["spec"]["targetCPUUtilizationPercentage"] == 50
    finally:
        measured.kubectl("delete", "namespace", "scaled", "--wait=false")
