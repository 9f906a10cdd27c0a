"""Debian's Prometheus scrapes a cluster through the API server: the API server itself, kubelets and a pod.

Debian builds it without Kubernetes service discovery, so its configuration lists the targets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for
from tests.integration.monitoring.podwithmetrics import pod_with_metrics
from tests.unit.addons.monitoring import prometheus

pytestmark = pytest.mark.skipif(not prometheus.is_at_hand(), reason="Prometheus 2.4x is not installed")


def test_prometheus_reads_what_a_cluster_serves(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [name.removeprefix("node/") for name in cluster.kubectl("get", "nodes", "-o", "name").split()]
    paths = {"apiserver": "/metrics", "pods": "/api/v1/namespaces/scraped/pods/shop:8080/proxy/metrics"}
    for node in nodes:
        for path in ("metrics", "metrics/cadvisor", "metrics/resource"):
            paths[f"{node}/{path}"] = f"/api/v1/nodes/{node}/proxy/{path}"
    jobs = [
        {
            "job_name": job,
            "scheme": "https",
            "metrics_path": path,
            "tls_config": {"ca_file": str(cluster.ca)},
            "authorization": {"credentials": cluster.admin_token()},
            "static_configs": [{"targets": [cluster.server.removeprefix("https://")]}],
        }
        for job, path in paths.items()
    ]
    config = json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs})
    with pod_with_metrics(cluster, "scraped"), prometheus.running(tmp_path, config) as real:

        def ask(query: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = real.ask("/api/v1/query", query=query)["data"]["result"]
            return found

        wait_for(lambda: len(ask("up == 1")) == len(paths), seconds=60)
        (visits,) = ask("visits_total")
        assert (visits["metric"]["job"], visits["value"][1]) == ("pods", "5")
        assert ask('count({job="apiserver"}) > 10')
        assert ask("container_cpu_usage_seconds_total")
