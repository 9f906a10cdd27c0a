"""The add-on in a cluster: it finds targets, and answers through the proxy verb."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Cluster, wait_for
from tests.integration.monitoring.podwithmetrics import pod_with_metrics

_PROXY = "/api/v1/namespaces/kube-system/services/prometheus/proxy"
_NAMESPACE = "measured"


@pytest.fixture(scope="module")
def monitored(cluster: Cluster) -> Cluster:
    # The add-on scrapes every second, not every 15 seconds, so that the test need not wait.
    cluster.kubectl("-n", "kube-system", "set", "env", "deployment/prometheus", "HATCHWAY_MONITORING_INTERVAL=1")
    return cluster


def _ask(cluster: Cluster, query: str) -> list[dict[str, Any]]:
    answer = cluster.get(f"{_PROXY}/api/v1/query?query={quote(query)}")
    if answer.status != 200:
        return []
    found: list[dict[str, Any]] = answer.json["data"]["result"]
    return found


def test_the_api_server_and_the_kubelets_are_scraped(monitored: Cluster) -> None:
    wait_for(lambda: _ask(monitored, 'up{job="apiserver"} == 1'))
    (api,) = _ask(monitored, 'up{job="apiserver"}')
    assert api["metric"]["instance"] == "kubernetes.default.svc:443"
    assert _ask(monitored, 'count({job="apiserver"}) > 10')
    nodes = monitored.kubectl("get", "nodes", "-o", "name").split()
    wait_for(lambda: len(_ask(monitored, 'up{job="kubelet",metrics_path="/metrics"} == 1')) == len(nodes))
    cadvisor = wait_for(lambda: _ask(monitored, 'up{job="kubelet",metrics_path="/metrics/cadvisor"} == 1'))
    assert {f"node/{one['metric']['node']}" for one in cadvisor} == set(nodes)
    assert _ask(monitored, 'container_cpu_usage_seconds_total{namespace="kube-system"}')


def test_a_pod_with_the_annotation_is_scraped_until_it_is_deleted(monitored: Cluster) -> None:
    with pod_with_metrics(monitored, _NAMESPACE):
        (found,) = wait_for(lambda: _ask(monitored, "visits_total"))
        labels = found["metric"]
        assert (labels["namespace"], labels["pod"], labels["container"]) == (_NAMESPACE, "shop", "web")
        assert (labels["job"], labels["page"], found["value"][1]) == ("kubernetes-pods", "/", "5")
        assert labels["instance"].endswith(":8080") and labels["node"]
        monitored.kubectl("-n", _NAMESPACE, "delete", "pod", "shop")
        # The series is stale at once, not only after the lookback of five minutes.
        wait_for(lambda: not _ask(monitored, "visits_total"))
        assert _ask(monitored, "last_over_time(visits_total[5m])")
