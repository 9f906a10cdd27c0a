"""Add-ons that start on first use: each way to use their Services starts them, and nothing else does."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from hatchway.cluster.network import launcher
from tests.conftest import BIN, Cluster, find_kubectl, wait_for
from tests.freeports import free_port

NAMES = {"elasticsearch-logging", "kibana-logging", "monitoring-grafana", "prometheus"}
ANNOTATION = "hatchway.dev/starts-on-first-use"
SERVICES = "/api/v1/namespaces/kube-system/services"
READY = "Hatchway's monitoring is Ready.\n"


@pytest.fixture(scope="module")
def lazy(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster("first-use", "--nodes", "1")


@pytest.fixture
def waiting(lazy: Cluster) -> Cluster:
    """Return the cluster; its add-on `dashboards` waits for its first use."""
    lazy.kubectl("-n", "kube-system", "scale", "deployment/prometheus", "--replicas=0")
    lazy.kubectl("-n", "kube-system", "annotate", "--overwrite", "deployment/prometheus", f"{ANNOTATION}=true")
    wait_for(lambda: state_of(lazy, "prometheus") == "waiting" and not pods_of(lazy, "prometheus"))
    return lazy


def state_of(cluster: Cluster, service: str) -> str:
    annotations = cluster.get(f"{SERVICES}/{service}").json["metadata"].get("annotations") or {}
    return str(annotations.get(ANNOTATION, ""))


def pods_of(cluster: Cluster, app: str) -> list[Any]:
    found: list[Any] = cluster.get(f"/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3D{app}").json["items"]
    return found


def replicas(cluster: Cluster, name: str = "prometheus") -> int:
    return int(cluster.get(f"/apis/apps/v1/namespaces/kube-system/deployments/{name}").json["spec"]["replicas"])


def run_python(cluster: Cluster, code: str) -> str:
    """Run a program in a new pod; return its output."""
    name = f"client-{time.monotonic_ns()}"
    command = ["run", name, "--image=hatchway/host", "--restart=Never", "--command", "--", "python3", "-c", code]
    cluster.kubectl(*command)
    wait_for(lambda: cluster.get(f"/api/v1/namespaces/default/pods/{name}").json["status"]["phase"] == "Succeeded")
    said = cluster.kubectl("logs", name)
    cluster.kubectl("delete", "pod", name, "--wait=false")
    return said


def ask(port: int, path: str = "/-/ready", host: str = "127.0.0.1") -> str:
    """Return the body of a response; "" while nothing listens."""
    try:
        with socket.create_connection((host, port), timeout=40) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            data = b"".join(iter(lambda: sock.recv(65536), b""))
    except OSError:
        return ""
    return data.partition(b"\r\n\r\n")[2].decode()


def test_a_new_cluster_runs_no_pods_of_add_ons_that_wait_for_their_first_use(lazy: Cluster) -> None:
    found = json.loads(lazy.hatchway("status", "-o", "json").stdout)
    assert found["ready"]
    assert {one["name"] for one in found["built_in"] if one["starts_on_first_use"]} == NAMES
    assert {one["name"] for one in found["built_in"] if one["ready"]} == {"kube-dns", "metrics-server"}
    assert found["addons"] == ["dns", "logging", "metrics", "ingress", "dashboards"]
    told = lazy.hatchway("status").stdout
    assert sum(
        line.startswith("  - built-in") and line.endswith("starts on first use") for line in told.splitlines()
    ) == len(NAMES)
    rows = json.loads(lazy.hatchway("ls", "-n", "kube-system", "-o", "json").stdout)["items"]
    assert {row["name"] for row in rows if row["status"] == "starts on first use"} == NAMES
    services = json.loads(lazy.hatchway("info", "-o", "json").stdout)["services"]
    assert {one["name"] for one in services if one["starts_on_first_use"]} == NAMES
    # None of these requests counts as a use.
    assert not pods_of(lazy, "elasticsearch-logging") and not pods_of(lazy, "prometheus")


def test_the_proxy_verb_starts_the_add_on(lazy: Cluster) -> None:
    assert run_python(lazy, "print('written before the first use')") == "written before the first use\n"
    answer = lazy.get(f"{SERVICES}/https:elasticsearch-logging:/proxy/_cluster/health")
    assert (answer.status, answer.json["status"]) == (200, "green")
    # The add-on also finds lines that were written before its start, by a pod that is deleted now.
    search = f"{SERVICES}/elasticsearch-logging/proxy/_search?q=log:%22before%20the%20first%20use%22"
    wait_for(lambda: lazy.get(search).json["hits"]["total"]["value"] == 1)
    # The Service `kibana-logging` leads to the same program.
    assert "<html" in lazy.get(f"{SERVICES}/kibana-logging/proxy/").text
    wait_for(lambda: state_of(lazy, "elasticsearch-logging") == state_of(lazy, "kibana-logging") == "")
    deployment = lazy.get("/apis/apps/v1/namespaces/kube-system/deployments/elasticsearch-logging").json
    assert ANNOTATION not in (deployment["metadata"].get("annotations") or {})


def test_the_dashboards_page_starts_the_add_on(waiting: Cluster) -> None:
    # kubectl proxy and the door send the same request.
    answer = waiting.get(f"{SERVICES}/monitoring-grafana/proxy/")
    assert answer.status == 200 and "<html" in answer.text
    assert waiting.get(f"{SERVICES}/monitoring-grafana:80/proxy/").status == 200


@pytest.mark.skipif(bool(launcher.why_unavailable()), reason="no private network here")
def test_connections_of_pods_start_the_add_on(waiting: Cluster) -> None:
    code = """
import concurrent.futures, urllib.request
def get(_):
    return urllib.request.urlopen("http://prometheus.kube-system:9090/-/ready", timeout=60).read().decode()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(len(set(pool.map(get, range(8)))), get(0))
"""
    assert run_python(waiting, code).strip() == f"1 {READY}".strip()
    assert replicas(waiting) == 1


def test_a_node_port_starts_the_add_on(waiting: Cluster) -> None:
    port = 30000 + free_port() % 2768
    ports = [{"port": 9090, "targetPort": 9090, "nodePort": port}]
    change = json.dumps({"spec": {"type": "NodePort", "ports": ports}})
    waiting.kubectl("-n", "kube-system", "patch", "service", "prometheus", "--type=merge", "-p", change)
    try:
        assert wait_for(lambda: ask(port)) == READY
    finally:
        change = json.dumps({"spec": {"type": "ClusterIP", "ports": [{"port": 9090, "targetPort": 9090}]}})
        waiting.kubectl("-n", "kube-system", "patch", "service", "prometheus", "--type=merge", "-p", change)


@pytest.mark.parametrize("program", ["hatchway", "kubectl"])
def test_a_port_forward_starts_the_add_on(waiting: Cluster, program: str) -> None:
    port = free_port()
    kubeconfig = ("--kubeconfig", str(waiting.kubeconfig))
    if program == "hatchway":
        command = [str(BIN / "hatchway"), "forward", *kubeconfig, "-n", "kube-system", "svc/prometheus", f"{port}:9090"]
    else:
        own = (*kubeconfig, "-n", "kube-system", "port-forward", "svc/prometheus", f"{port}:9090")
        command = [str(find_kubectl()), *own]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert wait_for(lambda: ask(port)) == READY
        finally:
            process.terminate()


def test_an_add_on_that_a_user_has_scaled_down_is_not_started(waiting: Cluster) -> None:
    assert waiting.get(f"{SERVICES}/prometheus/proxy/-/ready").text == READY
    wait_for(lambda: state_of(waiting, "prometheus") == "")
    waiting.kubectl("-n", "kube-system", "scale", "deployment/prometheus", "--replicas=0")
    wait_for(lambda: not pods_of(waiting, "prometheus"))
    refused = waiting.get(f"{SERVICES}/prometheus/proxy/-/ready")
    assert refused.status == 503
    assert refused.json["message"] == 'no endpoints available for service "prometheus"'
    assert replicas(waiting) == 0


def test_a_user_may_start_the_add_on_by_scaling(waiting: Cluster) -> None:
    waiting.kubectl("-n", "kube-system", "scale", "deployment/prometheus", "--replicas=1")
    wait_for(lambda: state_of(waiting, "prometheus") == "" and replicas(waiting) == 1)


def test_a_port_that_the_service_lacks_does_not_start_the_add_on(waiting: Cluster) -> None:
    for name, message in (
        ("prometheus:1", 'no service port 1 found for service "prometheus"'),
        ("prometheus:web", 'no endpoints available for service "prometheus:web"'),
    ):
        refused = waiting.get(f"{SERVICES}/{name}/proxy/")
        assert (refused.status, refused.json["message"]) == (503, message)
    assert replicas(waiting) == 0


def test_users_without_the_right_to_the_service_do_not_start_the_add_on(waiting: Cluster) -> None:
    assert waiting.get(f"{SERVICES}/prometheus/proxy/", token=None).status == 403
    assert (
        waiting.request(
            "GET", f"{SERVICES}/prometheus", token=None, headers={"Kubectl-Command": "kubectl port-forward"}
        ).status
        == 403
    )
    assert replicas(waiting) == 0


def test_other_services_cannot_use_the_annotation(waiting: Cluster) -> None:
    """The annotation has no effect on a Service of the same name elsewhere, or another Service of kube-system."""
    for namespace, name in (("default", "prometheus"), ("kube-system", "other")):
        metadata = {"name": name, "namespace": namespace, "annotations": {ANNOTATION: "waiting"}}
        spec = {"selector": {"k8s-app": "prometheus"}, "ports": [{"port": 9090}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        waiting.kubectl("apply", "-f", "-", stdin=json.dumps(service))
        try:
            answer = waiting.get(f"/api/v1/namespaces/{namespace}/services/{name}/proxy/")
            assert (answer.status, answer.json["message"]) == (503, f'no endpoints available for service "{name}"')
        finally:
            waiting.kubectl("-n", namespace, "delete", "service", name)
    assert replicas(waiting) == 0


def test_a_restart_keeps_what_was_started(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("first-use-again", "--nodes", "0", "--addons", "dashboards", "--network", "loopback")
    assert cluster.get(f"{SERVICES}/prometheus/proxy/-/ready").text == READY
    wait_for(lambda: state_of(cluster, "prometheus") == "")
    cluster.hatchway("down")
    said = cluster.hatchway("up", "--detach").stdout
    assert "built-in        monitoring-grafana, prometheus" in said and "on first use" not in said
    cluster.hatchway("down")
    said = cluster.hatchway("up", "--detach", "--addons", "none").stdout
    assert "switched off    dashboards: their objects were removed" in said
    assert json.loads(cluster.hatchway("status", "-o", "json").stdout)["addons"] == []
    assert not pods_of(cluster, "prometheus")
