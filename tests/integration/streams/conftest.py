"""The clients, and a pod for exec, attach and port-forward."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for
from tests.integration.streams.clients import NAMES, Kubectl, kubectl_of

_NAMESPACE = "streams"

# Reads each connection to the end of its data, then answers with the number of bytes, over the half-closed connection.
_COUNT = """
import socket, sys
server = socket.create_server(("127.0.0.1", 9000), backlog=256)
while True:
    connection, _ = server.accept()
    size = 0
    while data := connection.recv(65536):
        size += len(data)
    connection.sendall(b"%d bytes" % size)
    connection.close()
"""
# A server that listens only on the pod's loopback, like many programs.
_WEB = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "8080"]
# A server that listens only on IPv6 loopback, like development servers of Node.
_WEB_IPV6 = ["python3", "-m", "http.server", "--bind", "::1", "8082"]
_OPEN = ["python3", "-m", "http.server", "8081"]


def _container(name: str, *command: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "hatchway/shell", "command": list(command), **more}


_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod", "labels": {"app": "pod"}},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            _container("main", "sleep", "infinity", env=[{"name": "FOO", "value": "bar"}], workingDir="/tmp"),
            _container("reader", "sh", "-c", "while read line; do echo got $line; done; echo end", stdin=True),
            _container("shell", "sh", stdin=True, tty=True),
            _container("web", *_WEB),
            _container("open", *_OPEN, ports=[{"name": "open", "containerPort": 8081}]),
            _container("count", "python3", "-c", _COUNT),
            _container("web6", *_WEB_IPV6),
        ],
    },
}
_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "service"},
    "spec": {"selector": {"app": "pod"}, "ports": [{"port": 80, "targetPort": "open"}]},
}
_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "deployment"},
    "spec": {
        "selector": {"matchLabels": {"app": "deployed"}},
        "template": {
            "metadata": {"labels": {"app": "deployed"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [_container("open", *_OPEN)]},
        },
    },
}


@pytest.fixture(scope="session")
def stream_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """Return the shared cluster with the namespace `streams` and its pods."""
    cluster.kubectl("create", "namespace", _NAMESPACE)
    wait_for(lambda: "default" in cluster.kubectl("-n", _NAMESPACE, "get", "sa", check=False))
    objects = {"apiVersion": "v1", "kind": "List", "items": [_POD, _SERVICE, _DEPLOYMENT]}
    cluster.kubectl("-n", _NAMESPACE, "apply", "-f", "-", stdin=json.dumps(objects))
    cluster.kubectl("-n", _NAMESPACE, "wait", "--for=condition=Ready", "pod/pod", "--timeout=60s")
    cluster.kubectl("-n", _NAMESPACE, "rollout", "status", "deployment/deployment", "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")


@pytest.fixture(scope="module", params=NAMES)
def kubectl(request: pytest.FixtureRequest, stream_cluster: Cluster) -> Kubectl:
    """Return each of the kubectl releases."""
    return kubectl_of(request.param, stream_cluster, _NAMESPACE)


@pytest.fixture(scope="module")
def newest(stream_cluster: Cluster) -> Kubectl:
    """Return the newest kubectl."""
    return kubectl_of("newest", stream_cluster, _NAMESPACE)
