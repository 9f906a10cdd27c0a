"""`hatchway expose` compared with `kubectl expose` on the same objects; `--only`, which exposes a single pod."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import Cluster

NAMESPACE = "expose"


def _container(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"name": "a", "image": "hatchway/host", "command": ["sleep", "9999"], "ports": list(ports)}


def _workload(kind: str, name: str, selector: Any, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [_container(*ports)]}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": {"team": "blue"}},
        "spec": {"replicas": 0, "selector": selector, "template": template, **spec},
    }


def _pod(name: str, labels: dict[str, str], *ports: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [_container(*ports)], "terminationGracePeriodSeconds": 0},
    }


OBJECTS = [
    _workload("Deployment", "web", {"matchLabels": {"app": "web"}}, {"containerPort": 8080, "name": "http"}),
    _workload("ReplicaSet", "set", {"matchLabels": {"app": "set"}}, {"containerPort": 80}, {"containerPort": 443}),
    _pod("dns", {"app": "dns", "tier": "back"}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}),
    _pod("bare", {"app": "bare"}),
    _pod("web-0", {"app": "many"}, {"containerPort": 8080}),
    _pod("web-1", {"app": "many"}, {"containerPort": 8080}),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "several", "labels": {"colour": "red"}},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "a", "port": 80, "targetPort": 8080}, {"name": "b", "port": 81, "protocol": "UDP"}],
        },
    },
]


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=yaml.safe_dump_all(OBJECTS))
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def expose(shop: Cluster, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return shop.hatchway("expose", *arguments, "-n", NAMESPACE, "--kubeconfig", str(shop.kubeconfig), check=check)


def _asked(service: dict[str, Any]) -> dict[str, Any]:
    """Return an object as the client sends it, without the empty status that kubectl's types add."""
    metadata = service["metadata"]
    return {"name": metadata["name"], "labels": metadata.get("labels"), "spec": service["spec"]}


CASES = [
    ("deployment", "web"),
    ("deployment", "web", "--port=80", "--target-port=8080", "--name=other"),
    ("deployment", "web", "--port=80", "--target-port=http", "--type=NodePort"),
    ("deployment", "web", "--type=LoadBalancer", "--load-balancer-ip=192.0.2.7", "--session-affinity=ClientIP"),
    ("rs", "set"),
    ("rs", "set", "--port=80,8443", "--protocol=UDP"),
    ("rs", "set", "--target-port=9", "--labels=a=b,c=", "--selector=app=web"),
    ("pod", "dns"),
    ("pod", "dns", "--port=53"),
    ("pod", "dns", "--port=53", "--protocol=SCTP", "--external-ip=192.0.2.9"),
    ("pod", "bare", "--port=80"),
    ("pod", "bare", "--cluster-ip=None"),
    ("service", "several", "--name=again"),
    ("service", "several", "--name=again", "--port=443", "--target-port=8443"),
]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_the_same_service_as_kubectl(shop: Cluster, case: tuple[str, ...]) -> None:
    theirs = json.loads(shop.kubectl("-n", NAMESPACE, "expose", *case, "--dry-run=client", "-o", "json"))
    ours = json.loads(expose(shop, *case, "--dry-run=client", "-o", "json").stdout)
    assert _asked(ours) == _asked(theirs)
    assert ours["metadata"]["namespace"] == theirs["metadata"]["namespace"] == NAMESPACE


def test_a_created_service_is_the_same(shop: Cluster) -> None:
    def stored(text: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(text)
        spec = found["spec"]
        for key in ("clusterIP", "clusterIPs"):
            spec.pop(key)
        for port in spec["ports"]:
            port.pop("nodePort", None)
        return _asked(found)

    case = ("deployment", "web", "--port=80", "--target-port=8080", "--type=NodePort", "-o", "json")
    ours = stored(expose(shop, *case, "--name=same").stdout)
    shop.kubectl("-n", NAMESPACE, "delete", "service", "same")
    assert ours == stored(shop.kubectl("-n", NAMESPACE, "expose", *case, "--name=same"))
    refused = expose(shop, "deploy/web", "--name=same", check=False)
    assert refused.returncode == 1
    assert "there is already a Service same" in refused.stderr
    assert f"kubectl delete service same -n {NAMESPACE}" in refused.stderr


def test_objects_that_kubectl_refuses_are_refused_with_a_hint(shop: Cluster) -> None:
    for case, message in (
        (("pod", "bare"), "pod/bare declares no port"),
        (("pod", "none"), "there is no pod/none in namespace expose"),
        (("job", "x"), "there is no job/x"),
        (("deploy/web", "--type=External"), '--type: "External" is not known'),
        (("deploy/web", "--port=99999"), "must be between 1 and 65535"),
    ):
        done = expose(shop, *case, check=False)
        assert done.returncode in (1, 2)
        assert message in done.stderr
    missing = shop.hatchway("expose", "web", "-n", "expse", "--kubeconfig", str(shop.kubeconfig), check=False)
    assert 'there is no namespace "expse"; did you mean expose?' in missing.stderr


def test_the_ways_in_are_printed(shop: Cluster) -> None:
    shown = expose(shop, "deploy/web", "--name=shown", "--type=NodePort")
    port = json.loads(shop.kubectl("-n", NAMESPACE, "get", "service", "shown", "-o", "json"))["spec"]["ports"][0]
    assert shown.stdout.startswith("service/shown exposed\n")
    assert "shown.expose.svc.cluster.local, port 8080" in shown.stdout
    assert "http://shown.expose.svc.localhost:8001/ while `hatchway proxy` runs" in shown.stdout
    assert f"http://127.0.0.1:{port['nodePort']}/" in shown.stdout
    assert "no pod has the labels of its selector" in shown.stderr
    assert "hatchway exposure -n expose" in shown.stderr


def test_nothing_is_created_by_a_dry_run(shop: Cluster) -> None:
    for how in ("client", "server"):
        done = expose(shop, "deploy/web", "--name=dry", "--dry-run", how)
        assert done.stdout == f"service/dry exposed ({'server ' if how == 'server' else ''}dry run)\n"
    done = expose(shop, "pod/web-1", "--only", "--name=dry", "--dry-run=server", "-o", "name")
    assert done.stdout == "service/dry\n"
    assert "NotFound" in shop.kubectl("-n", NAMESPACE, "get", "service", "dry", check=False)
    assert "exposed-pod" not in shop.kubectl("-n", NAMESPACE, "get", "pod", "web-1", "-o", "yaml")


def test_one_pod_is_exposed_alone_and_unexposed(shop: Cluster) -> None:
    def kubectl(*arguments: str) -> str:
        return shop.kubectl("-n", NAMESPACE, *arguments)

    several = json.loads(expose(shop, "pod/web-0", "--dry-run=client", "-o", "json").stdout)
    assert several["spec"]["selector"] == {"app": "many"}
    # A Service that has Hatchway's labels but another selector was not made by Hatchway, and is kept.
    labels = "hatchway.dev/made-by=hatchway-expose,hatchway.dev/exposed-pod=web-0"
    kubectl("create", "service", "clusterip", "foreign", "--tcp=80")
    kubectl("label", "service", "foreign", *labels.split(","))

    done = expose(shop, "pod/web-0", "--only")
    assert done.stdout.startswith("service/web-0 exposed\n")
    service = json.loads(kubectl("get", "service", "web-0", "-o", "json"))
    assert service["spec"]["selector"] == {"hatchway.dev/exposed-pod": "web-0"}
    selected = kubectl("get", "pods", "-l", "hatchway.dev/exposed-pod=web-0", "-o", "name")
    assert selected.split() == ["pod/web-0"]
    again = expose(shop, "pod/web-0", "--only", check=False)
    assert again.returncode == 1
    assert "there is already a Service web-0" in again.stderr
    # The failure has removed nothing.
    assert kubectl("get", "pods", "-l", "hatchway.dev/exposed-pod=web-0", "-o", "name").split() == ["pod/web-0"]

    undone = expose(shop, "pod/web-0", "--undo")
    assert undone.stdout == "service/web-0 deleted\npod/web-0 unlabeled\n"
    left = kubectl("get", "services,pods", "-o", "name").split()
    assert "service/web-0" not in left
    assert {"service/foreign", "pod/web-0"} <= set(left)
    assert kubectl("get", "pods", "-l", "hatchway.dev/exposed-pod", "-o", "name") == ""
    nothing = expose(shop, "pod/web-0", "--undo", check=False)
    assert nothing.returncode == 1
    assert "has made nothing for pod web-0" in nothing.stderr


def test_the_label_is_removed_when_the_service_is_refused(shop: Cluster) -> None:
    done = expose(shop, "pod/web-1", "--only", "--port=99999", check=False)
    assert done.returncode == 1
    assert shop.kubectl("-n", NAMESPACE, "get", "pods", "-l", "hatchway.dev/exposed-pod", "-o", "name") == ""


def test_the_service_is_removed_when_its_pod_is_gone(shop: Cluster) -> None:
    expose(shop, "pod/web-1", "--only", "-o", "name")
    shop.kubectl("-n", NAMESPACE, "delete", "pod", "web-1")
    assert expose(shop, "web-1", "--undo").stdout == "service/web-1 deleted\n"


def test_only_takes_a_single_pod(shop: Cluster) -> None:
    done = expose(shop, "svc/foreign", "--only", check=False)
    assert done.returncode == 1
    assert "is not one pod" in done.stderr
