"""`kubectl cluster-info` with a public address, and `kubectl cluster-info dump`."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Cluster, wait_for


@pytest.fixture(scope="module")
def informed(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster("informed", "--nodes", "1", "--addons", "dns,logging")


def lines(cluster: Cluster) -> list[str]:
    """Return the output of `kubectl cluster-info`, without colours; `hatchway info` must print the same."""
    said = cluster.kubectl("cluster-info")
    for colour in ("\x1b[0;32m", "\x1b[0;33m", "\x1b[0m"):
        said = said.replace(colour, "")
    # kubectl writes a space after the URL of a load balancer.
    found = [line.rstrip() for line in said.splitlines() if "is running at" in line]
    assert cluster.hatchway("info").stdout.splitlines() == found
    return found


def expose(cluster: Cluster, kind: str) -> None:
    change = json.dumps({"spec": {"type": kind}})
    cluster.kubectl("-n", "kube-system", "patch", "service", "kibana-logging", "-p", change)


def test_a_load_balancers_address_is_listed_and_stays(informed: Cluster) -> None:
    expose(informed, "LoadBalancer")

    def address() -> str:
        found = informed.get("/api/v1/namespaces/kube-system/services/kibana-logging").json
        ingress = found["status"]["loadBalancer"].get("ingress") or [{"ip": ""}]
        return str(ingress[0]["ip"])

    ip = wait_for(address)
    line = f"kibana-logging is running at http://{ip}:5601"
    assert line in lines(informed)
    # A request to the public address starts the add-on, as first use.
    with urllib.request.urlopen(f"http://{ip}:5601/", timeout=60) as answer:
        assert b"<html" in answer.read()
    informed.hatchway("down")
    informed.hatchway("up", "--detach")
    wait_for(address)
    assert line in lines(informed)
    expose(informed, "ClusterIP")
    (line,) = [line for line in lines(informed) if line.startswith("kibana-logging ")]
    assert line.endswith("/api/v1/namespaces/kube-system/services/kibana-logging/proxy")


def test_dump_of_all_namespaces_into_a_directory(informed: Cluster, tmp_path: Path) -> None:
    options = ("--all-namespaces", "--output-directory", str(tmp_path), "-o", "yaml")
    said = informed.kubectl("cluster-info", "dump", *options)
    assert f"Cluster info dumped to {tmp_path}" in said
    nodes = yaml.safe_load((tmp_path / "nodes.yaml").read_text())
    assert {node["metadata"]["name"] for node in nodes["items"]} == {"control-plane", "node-1"}
    services = yaml.safe_load((tmp_path / "kube-system/services.yaml").read_text())
    assert {"kube-dns", "kibana-logging"} <= {one["metadata"]["name"] for one in services["items"]}
    assert (tmp_path / "default/services.yaml").exists()
    pods = yaml.safe_load((tmp_path / "kube-system/pods.yaml").read_text())["items"]
    assert pods
    for pod in pods:
        assert (tmp_path / "kube-system" / pod["metadata"]["name"] / "logs.txt").exists()


def test_dump_to_the_terminal(informed: Cluster) -> None:
    said = informed.kubectl("cluster-info", "dump")
    decoder, kinds = json.JSONDecoder(), set()
    rest = said
    while rest.lstrip().startswith("{"):
        found, end = decoder.raw_decode(rest.lstrip())
        kinds.add(found["kind"])
        rest = rest.lstrip()[end:]
    assert {"NodeList", "EventList", "ServiceList", "DeploymentList", "ReplicaSetList", "PodList"} <= kinds
    (pod,) = informed.get("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns").json["items"]
    assert f"==== START logs for container dns of pod kube-system/{pod['metadata']['name']} ====" in rest
