"""The application of the door's tests as pods of the shared cluster, behind services of several kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bench.peers import make_certificate
from tests.conftest import Cluster, wait_for

NAMESPACE = "door"


def workload(name: str, *arguments: str) -> list[dict[str, object]]:
    labels = {"app": name}
    container = {
        "name": "app",
        "image": "hatchway/host",
        "command": ["python3", "/app/application.py", *arguments],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "app", "projected": {"sources": [{"configMap": {"name": "app"}}]}}],
        "terminationGracePeriodSeconds": 0,
    }
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


@pytest.fixture(scope="session")
def namespace(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Create the application (`app`), its strict variant, and Services that are unreachable for various reasons."""
    directory = tmp_path_factory.mktemp("app")
    certificate, key = make_certificate(directory)
    source = Path(__file__).with_name("application.py").read_text()
    labels = {"app": "app"}

    def service(name: str, *ports: dict[str, object], selector: dict[str, str] = labels) -> dict[str, object]:
        spec = {"selector": selector, "ports": list(ports)}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

    documents: list[dict[str, object]] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "app"},
            "data": {"application.py": source, "tls.pem": key.read_text() + certificate.read_text()},
        },
        *workload("app"),
        *workload("strict", "--strict"),
        service(
            "named",
            {"name": "metrics", "port": 9090, "targetPort": 8080},
            {"name": "web", "port": 81, "targetPort": 8080},
        ),
        service("by-name", {"name": "web", "port": 80, "targetPort": "http"}),
        service("secure", {"name": "https", "port": 443, "targetPort": 8443}),
        service("surprise", {"port": 7777, "targetPort": 8443}),
        service("closed", {"name": "web", "port": 80, "targetPort": 9}, {"name": "open", "port": 8080}),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "outside"},
            "spec": {"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]},
        },
        service("nobody", {"port": 80}, selector={"app": "nobody"}),
        {
            **service("annotated", {"port": 80, "targetPort": 8080}),
            "metadata": {"name": "annotated", "annotations": {"hatchway.dev/host-header": "app.example"}},
        },
    ]  # fmt: skip
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=yaml.safe_dump_all(documents))
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/app", "pod/strict", "--timeout=60s")
    for name in ("app", "strict"):
        wait_for(lambda name=name: "10." in cluster.kubectl("-n", NAMESPACE, "get", "endpoints", name))
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
