"""The rarer commands of stock kubectl: they work, or fail at once with the reason."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster, wait_for

NS = "unusual"
OBJECTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: hatchway/echo, ports: [{containerPort: 8080, name: http}]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one, labels: {app: web}}
data: {a: "1"}
"""


class Kubectl:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", NS, *arguments, stdin=stdin)

    def fails(self, *arguments: str, stdin: str | None = None) -> str:
        """Return the error text of a command that must fail at once."""
        begun = time.monotonic()
        with pytest.raises(AssertionError) as raised:
            self(*arguments, stdin=stdin)
        assert time.monotonic() - begun < 60, "the command did not fail at once"
        return str(raised.value)


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    found = Kubectl(cluster)
    found("create", "namespace", NS)
    found("apply", "-f", "-", stdin=OBJECTS)
    found("rollout", "status", "deployment/web", "--timeout=60s")
    yield found
    found("delete", "namespace", NS, "--timeout=60s")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exec deploy/web -- no-such-program", "executable file not found in $PATH"),
        ("exec deploy/web -c nope -- true", "container nope is not valid for pod"),
        ("exec deploy/web -- false", "command terminated with exit code 1"),
        ("port-forward deploy/web 0:nope", "nope"),
        ("certificate approve x", 'certificatesigningrequests.certificates.k8s.io "x" not found'),
        ("create priorityclass p --value=2000000000", "maximum allowed value of a user defined priority is 1000000000"),
        ("explain pod.spec.nope", 'field "nope" does not exist'),
        ("get pods --field-selector=spec.nope=x", "field label not supported: spec.nope"),
        ("logs deploy/web -c nope", "container nope is not valid for pod"),
        ("wait deploy/web --for=condition=Never --timeout=1s", "timed out waiting for the condition"),
        ("delete namespace kube-system", "this namespace may not be deleted"),
    ],
)
def test_commands_that_cannot_work_say_so(kubectl: Kubectl, command: str, said: str) -> None:
    assert said in kubectl.fails(*command.split())


@pytest.mark.parametrize(
    "kind", ["resource.k8s.io/v1alpha3 DeviceTaintRule", "coordination.k8s.io/v1beta1 LeaseCandidate"]
)
def test_kinds_that_are_not_served(kubectl: Kubectl, kind: str) -> None:
    version, name = kind.split()
    body = json.dumps({"apiVersion": version, "kind": name, "metadata": {"name": "x"}})
    assert f'no matches for kind "{name}" in version "{version}"' in kubectl.fails("create", "-f", "-", stdin=body)


def test_cluster_info_dump(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("cluster-info", "dump", "--output-directory", str(tmp_path), "--namespaces", NS)
    assert json.loads((tmp_path / "nodes.json").read_text())["items"]
    assert json.loads((tmp_path / NS / "daemonsets.json").read_text())["items"] in (None, [])


def test_edit(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBE_EDITOR", 'sed -i \'s/a: "1"/a: "2"/\'')
    kubectl("edit", "configmap", "one")
    assert kubectl("get", "configmap", "one", "-o", "jsonpath={.data.a}") == "2"


def test_dry_runs_change_nothing(kubectl: Kubectl) -> None:
    assert "(server dry run)" in kubectl("create", "configmap", "dry", "--from-literal=a=b", "--dry-run=server")
    assert "(server dry run)" in kubectl("delete", "configmap", "one", "--dry-run=server")
    assert kubectl("get", "configmaps", "-o", "name").split() == ["configmap/kube-root-ca.crt", "configmap/one"]


def test_replace_and_prune(kubectl: Kubectl) -> None:
    before = kubectl("get", "configmap", "one", "-o", "jsonpath={.metadata.uid}")
    only = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "labels": {"set": "x"}}})
    kubectl("replace", "--force", "-f", "-", stdin=only)
    assert kubectl("get", "configmap", "one", "-o", "jsonpath={.metadata.uid}") != before
    kubectl("apply", "-f", "-", stdin=only.replace('"one"', '"two"'))
    options = ("--prune", "-l", "set=x", "--prune-allowlist=core/v1/ConfigMap")
    assert "configmap/two pruned" in kubectl("apply", "-f", "-", *options, stdin=only)


def test_finalizers(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "held")
    kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":["example.com/x"]}}')
    assert "timed out" in kubectl.fails("delete", "configmap", "held", "--timeout=1s")
    assert kubectl("get", "configmap", "held", "-o", "jsonpath={.metadata.deletionTimestamp}")
    kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "not found" in kubectl.fails("get", "configmap", "held")


def test_cascades(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "orphaning", "--image=hatchway/echo")
    selected = ("-l", "app=orphaning", "-o", "name")
    wait_for(lambda: kubectl("get", "pods", *selected))
    kubectl("delete", "deployment", "orphaning", "--cascade=orphan")
    (replica_set,) = kubectl("get", "replicasets", *selected).split()
    owners = kubectl("get", replica_set, "-o", "jsonpath={.metadata.ownerReferences}")
    assert owners == ""
    kubectl("delete", replica_set, "--cascade=foreground", "--timeout=60s")
    assert kubectl("get", "pods", *selected) == ""


def test_cordon_and_drain(kubectl: Kubectl) -> None:
    try:
        assert "drained" in kubectl("drain", "node-2", "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        assert "SchedulingDisabled" in kubectl("get", "node", "node-2")
        wait_for(lambda: kubectl("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}") == "2")
        nodes = kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}").split()
        assert "node-2" not in nodes
    finally:
        kubectl("uncordon", "node-2")
    kubectl("taint", "node", "node-2", "a=b:NoSchedule")
    kubectl("taint", "node", "node-2", "a-")


def test_roll_outs_pause(kubectl: Kubectl) -> None:
    kubectl("rollout", "pause", "deployment/web")
    kubectl("set", "image", "deployment/web", "c=hatchway/echo:2")
    assert "timed out" in kubectl.fails("rollout", "status", "deployment/web", "--timeout=1s")
    kubectl("rollout", "resume", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert "hatchway/echo:2" in kubectl("rollout", "history", "deployment/web", "--revision=2")


def test_run_with_a_terminal_falls_back_to_logs(kubectl: Kubectl) -> None:
    said = kubectl("run", "once", "-i", "--image=hatchway/host", "--restart=Never", "--command", "--", "echo", "hello")
    assert "hello" in said


ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: things-viewer, labels: {rbac.authorization.k8s.io/aggregate-to-view: "true"}}
rules: [{apiGroups: [things.example.com], resources: [things], verbs: [get]}]
"""


def test_aggregated_roles_follow_their_parts(kubectl: Kubectl) -> None:
    def shown(role: str) -> bool:
        return "things.example.com" in kubectl("get", "clusterrole", role, "-o", "yaml")

    before = kubectl("get", "clusterrole", "admin", "-o", "jsonpath={.rules}")
    assert "reconciled" in kubectl("auth", "reconcile", "-f", "-", stdin=ROLE)
    # The role is aggregated into view, view into edit, edit into admin.
    wait_for(lambda: all(map(shown, ("view", "edit", "admin"))))
    kubectl("delete", "clusterrole", "things-viewer")
    wait_for(lambda: not any(map(shown, ("view", "edit", "admin"))))
    assert kubectl("get", "clusterrole", "admin", "-o", "jsonpath={.rules}") == before


@pytest.mark.parametrize(
    "kind",
    [
        "nodes",
        "namespaces",
        "pods",
        "services",
        "endpoints",
        "endpointslices",
        "configmaps",
        "serviceaccounts",
        "events",
        "deployments",
        "replicasets",
        "clusterroles",
        "clusterrolebindings",
        "leases",
        "roles",
        "rolebindings",
    ],
)
def test_everything_can_be_described_and_shown(kubectl: Kubectl, kind: str) -> None:
    assert "Name:" in kubectl("describe", kind, "-A")
    assert "apiVersion" in kubectl("get", kind, "-A", "-o", "yaml")
    assert "NAME" in kubectl("get", kind, "-A", "-o", "wide", "--show-labels")


# -- documents


def test_metrics(cluster: Cluster, kubectl: Kubectl) -> None:
    assert cluster.get("/metrics", token=cluster.token("--user", "nobody")).status == 403
    assert cluster.get("/metrics", token=cluster.token("--user", "m", "--group", "system:monitoring")).status == 200
    kubectl.fails("get", "configmap", "not-there")
    found = cluster.get("/metrics")
    assert found.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    labels = 'verb="GET",group="",version="v1",resource="configmaps",subresource=""'
    assert f'apiserver_request_total{{{labels},code="404"}}' in found.text
    assert f'apiserver_request_duration_seconds_bucket{{{labels},le="+Inf"}}' in found.text
    # The node agent watches pods.
    assert 'apiserver_registered_watchers{group="",version="v1",resource="pods"}' in found.text
    assert "process_open_fds" in found.text


def test_how_service_account_tokens_are_verified_elsewhere(cluster: Cluster, kubectl: Kubectl) -> None:
    import jwt

    token = kubectl("create", "token", "default").strip()
    configuration = cluster.get("/.well-known/openid-configuration", token=token).json
    answer = cluster.get("/openid/v1/jwks", token=token)
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    key = jwt.PyJWKSet.from_dict(answer.json)[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=configuration["issuer"])
    assert claims["sub"] == f"system:serviceaccount:{NS}:default"
    assert cluster.get("/openid/v1/jwks", token=cluster.token("--user", "nobody")).status == 403


def test_openapi_in_protobuf_for_older_clients(cluster: Cluster) -> None:
    wanted = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    answer = cluster.get("/openapi/v2", headers={"Accept": wanted})
    assert "protobuf" in answer.headers["Content-Type"]
    assert not answer.body.startswith(b"{")
    assert cluster.get("/openapi/v2").json["swagger"] == "2.0"
