"""Helpers for the tests of the documentation's pages: curl, addresses as kubectl shows them, Deployments of a script."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.conftest import Cluster


def curl(*arguments: str, check: bool = True) -> str:
    """Return the output of curl; skip the test if curl is not installed. check: if False, return "" when curl fails."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "20", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"curl {' '.join(arguments)}: {done.stderr}"
    return done.stdout if done.returncode == 0 else ""


def shown_addresses(cluster: Cluster, kind: str, name: str, namespace: str = "") -> list[str]:
    """Return the addresses of a "node", "pod", "service" or a Service's "balancer"; an empty list while it has none."""
    place = ["-n", namespace] if namespace else []
    what = "service" if kind == "balancer" else kind
    obj = json.loads(cluster.kubectl("get", what, name, *place, "-o", "json"))
    spec, status = obj["spec"], obj["status"]
    if kind == "node":
        return [one["address"] for one in status["addresses"] if one["type"] == "InternalIP"]
    if kind == "pod":
        return [one["ip"] for one in status.get("podIPs") or ()]
    if kind == "service":
        return list(spec["clusterIPs"])
    return [one["ip"] for one in status["loadBalancer"].get("ingress") or ()]


def serving(name: str, script: str, *, replicas: int, labels: dict[str, str] | None = None, **pod: Any) -> Any:
    """Return a Deployment of a Python script that serves at port 8080. pod: further fields of the pods' spec."""
    labels = labels or {"app": name}
    container = {
        "name": name,
        "image": "hatchway/host",
        "command": ["python3", "-c", script],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
    }
    template = {"spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **pod}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, **template},
        },
    }
