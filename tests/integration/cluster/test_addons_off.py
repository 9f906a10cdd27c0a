"""A cluster without some of its add-ons has no parts that need them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hatchway.cluster import plan
from tests.conftest import Cluster, wait_for

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "reader"},
    "spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "c", "image": "hatchway/host", "command": ["cat", "/etc/resolv.conf"]}],
    },
}
INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "web"},
    "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
}


@pytest.fixture(scope="module")
def small(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster("small", "--nodes", "1", "--addons", "logging")


def test_only_what_is_on_is_listed(small: Cluster) -> None:
    found = json.loads(small.hatchway("status", "-o", "json").stdout)
    assert (found["ready"], found["addons"]) == (True, ["logging"])
    names = [one["name"] for one in json.loads(small.hatchway("info", "-o", "json").stdout)["services"]]
    assert names == ["elasticsearch-logging", "kibana-logging"]
    deployments = small.kubectl("-n", "kube-system", "get", "deployments", "-o", "name").split()
    assert deployments == ["deployment.apps/elasticsearch-logging"]
    assert (
        small.get("/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/_cluster/health").status == 200
    )


def test_without_dns_pods_have_this_machines_resolvers(small: Cluster) -> None:
    small.kubectl("apply", "-f", "-", stdin=json.dumps(POD))
    wait_for(lambda: small.get("/api/v1/namespaces/default/pods/reader").json["status"]["phase"] == "Succeeded")
    said = small.kubectl("logs", "reader")
    assert "10.96.0.10" not in said and "cluster.local" not in said
    host = [line for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")][:3]
    if host and json.loads(small.hatchway("status", "-o", "json").stdout)["egress"]["tool"]:
        # With egress, the pods' DNS queries are sent to this address, where the host answers them.
        host = [f"nameserver {plan.HOST_NAMESERVER}"]
    assert [line for line in said.splitlines() if line.startswith("nameserver")] == [
        " ".join(one.split()) for one in host
    ]
    wait_for(lambda: "MissingClusterDNS" in small.kubectl("events", "--for", "pod/reader"))
    assert 'Falling back to "Default" policy' in small.kubectl("describe", "pod", "reader")


def test_without_metrics_kubectl_and_autoscalers_say_so(small: Cluster) -> None:
    assert "metrics.k8s.io" not in small.kubectl("api-versions")
    assert "metrics" not in small.kubectl("get", "apiservices", "-o", "name")
    assert "Metrics API not available" in small.kubectl("top", "nodes", check=False)
    small.kubectl("create", "deployment", "web", "--image=hatchway/host", "--", "sleep", "1000")
    small.kubectl("autoscale", "deployment", "web", "--min=1", "--max=2", "--cpu-percent=50")

    def reasons() -> set[str]:
        events = small.get("/api/v1/namespaces/default/events").json["items"]
        return {one["reason"] for one in events if one["involvedObject"]["kind"] == "HorizontalPodAutoscaler"}

    wait_for(lambda: "FailedGetResourceMetric" in reasons())


def test_without_ingress_there_is_no_class_and_nothing_starts(small: Cluster) -> None:
    assert small.get("/apis/networking.k8s.io/v1/ingressclasses").json["items"] == []
    small.kubectl("apply", "-f", "-", stdin=json.dumps(INGRESS))
    made = small.get("/apis/networking.k8s.io/v1/namespaces/default/ingresses/web").json
    assert "ingressClassName" not in made["spec"]
    # After the add-on is switched on, it serves existing Ingresses, and its class is the default for new ones.
    small.hatchway("down")
    said = small.hatchway("up", "--detach", "--addons", "ingress").stdout
    assert "switched off    logging: their objects were removed" in said
    (only,) = small.get("/apis/networking.k8s.io/v1/ingressclasses").json["items"]
    assert only["metadata"]["name"] == "hatchway"
    assert small.kubectl("-n", "kube-system", "get", "deployments,services", "-o", "name") == ""
    small.kubectl("patch", "ingress", "web", "--type=merge", "-p", '{"spec":{"ingressClassName":"hatchway"}}')
    wait_for(lambda: "hatchway-ingress" in small.kubectl("-n", "kube-system", "get", "services", "-o", "name"))
