"""Quotas, limit ranges and pod security with stock kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import Cluster, wait_for

LIMITS = """
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec:
  limits:
  - type: Container
    default: {cpu: 200m, memory: 64Mi}
    defaultRequest: {cpu: 100m}
    max: {memory: 1Gi}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      hostNetwork: false
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: hatchway/host, command: [sleep, "1000"]}
"""
HOST = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "host"},
    "spec": {"hostPID": True, "containers": [{"name": "c", "image": "hatchway/host"}]},
}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "quotas")
    yield "quotas"
    cluster.kubectl("delete", "namespace", "quotas", "--timeout=60s")


def test_a_quota_and_a_limit_range_hold_a_deployment(cluster: Cluster, namespace: str) -> None:
    def kubectl(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
        return cluster.kubectl(*arguments, "-n", namespace, check=check, stdin=stdin)

    hard = "pods=2,requests.cpu=1,limits.memory=1Gi,count/deployments.apps=1"
    assert "resourcequota/small created" in kubectl("create", "quota", "small", f"--hard={hard}")
    wait_for(lambda: "pods: 0/2" in kubectl("get", "quota", "small"))
    refused = kubectl("run", "bare", "--image=hatchway/host", check=False)
    assert (
        'pods "bare" is forbidden: failed quota: small: must specify limits.memory for: bare; requests.cpu for: bare'
        in (refused)
    )
    kubectl("apply", "-f", "-", stdin=LIMITS)
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    wait_for(lambda: "pods: 2/2" in kubectl("get", "quota"))
    # The refusal by the quota is in an event of the ReplicaSet.
    wait_for(
        lambda: "exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2" in kubectl("get", "events")
    )
    lines = [line.split() for line in kubectl("describe", "quota", "small").splitlines()]
    assert ["pods", "2", "2"] in lines
    assert ["requests.cpu", "200m", "1"] in lines
    assert ["limits.memory", "128Mi", "1Gi"] in lines
    described = [line.split() for line in kubectl("describe", "limits").splitlines()]
    assert ["Container", "cpu", "-", "-", "100m", "200m", "-"] in described
    assert ["Container", "memory", "-", "1Gi", "64Mi", "64Mi", "-"] in described
    text = cluster.kubectl("describe", "namespace", namespace)
    assert "Resource Quotas" in text
    assert "Resource Limits" in text
    kubectl("scale", "deployment", "web", "--replicas=1")
    wait_for(lambda: "pods: 1/2" in kubectl("get", "quota"))
    kubectl("delete", "deployment", "web")
    wait_for(lambda: "count/deployments.apps: 0/1" in kubectl("get", "quota"))


def test_a_namespace_enforces_pod_security(cluster: Cluster, namespace: str) -> None:
    manifest = json.dumps(HOST)
    labels = ("pod-security.kubernetes.io/enforce=baseline", "pod-security.kubernetes.io/warn=restricted")
    cluster.kubectl("create", "namespace", "guarded")
    try:
        cluster.kubectl("apply", "-n", "guarded", "-f", "-", stdin=manifest)
        said = cluster.kubectl("label", "namespace", "guarded", *labels, check=False)
        assert (
            'existing pods in namespace "guarded" violate the new PodSecurity enforce level "baseline:latest"' in said
        )
        assert "host: host namespaces" in said
        cluster.kubectl("delete", "pod", "host", "-n", "guarded", "--now")
        said = cluster.kubectl("create", "-n", "guarded", "-f", "-", stdin=manifest, check=False)
        assert (
            'pods "host" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)' in said
        )
        said = cluster.kubectl("create", "deployment", "web", "--image=hatchway/host", "-n", "guarded", check=False)
        assert 'Warning: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in said
        assert "deployment.apps/web created" in said
        said = cluster.kubectl("label", "namespace", "guarded", "pod-security.kubernetes.io/audit=strict", check=False)
        assert "must be one of privileged, baseline, restricted" in said
    finally:
        cluster.kubectl("delete", "namespace", "guarded", "--timeout=60s")


def test_pod_templates_are_objects_of_their_own(cluster: Cluster, namespace: str) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "hatchway/host"}]}}
    obj = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"}, "template": template}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(obj))
    lines = cluster.kubectl("get", "podtemplates", "-n", namespace).splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "CONTAINERS", "IMAGES", "POD", "LABELS"],
        ["t", "c", "hatchway/host", "a=b"],
    ]
