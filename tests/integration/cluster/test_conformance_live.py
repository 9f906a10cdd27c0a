"""Every recorded exchange against a running cluster: HTTPS, tokens, RBAC, controllers, and backends in real pods.

The README of tests/conformance lists the objects. The Services have selectors, so the scheduler, the kubelets and the
EndpointSlice controller bring about the state that was recorded.
"""

from __future__ import annotations

import copy
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import proxy, replay, rest
from tests.conformance.cluster import NODE, FakeCluster, recorded_cluster
from tests.conformance.deliberate import DELIBERATE, REST_DELIBERATE, asked
from tests.conformance.tls import self_signed
from tests.conftest import Cluster, wait_for
from tests.integration.test_conformance_server import OBJECTS, RULES

Object = dict[str, Any]
NAMESPACES = ("default", "team-a", "team-b")
# The containers of each pod: (name of the backend, its port).
PODS = {"b10": [("b10", 8080), ("b10alt", 8081), ("b10tls", 8443)], "b11": [("b11", 8080)]}
TLS_PORT = 8443
BACKEND = Path(replay.__file__).with_name("backend.py")

# Exchanges that differ because the recorded cluster had fewer controllers: id -> (reason, changes for
# `rest.compare`).
_KUBELET = "what the scheduler and the kubelet have done by then"
LIVE: dict[str, tuple[str, dict[str, Any]]] = {
    "109": ("there are nodes here", {"body": None}),
    "139": ("the address is in this cluster's range", {"code": 201, "body": None}),
    "140": ("the address is in this cluster's range, and taken", {"message": None, "details": None}),
    "171": (_KUBELET, {"status": None}),
    "173": (_KUBELET, {"code": 400, "body": None, "headers": None}),
    "178": (_KUBELET, {"status": None, "metadata.deletionGracePeriodSeconds": None, "metadata.generation": None}),
}


def containers(name: str) -> list[Object]:
    """Return the containers of a pod. As in the recording, they declare no ports, which the proxy verb would use."""
    found = []
    for backend, port in PODS[name]:
        command = ["python3", "-u", "/backend/backend.py", backend, "$(HATCHWAY_POD_IP)", str(port)]
        if port == TLS_PORT:
            command += ["/backend/cert.pem", "/backend/key.pem"]
        found.append(
            {
                "name": backend,
                "image": "hatchway/host",
                "command": command,
                "env": [{"name": "HATCHWAY_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 30},
                "volumeMounts": [{"name": "backend", "mountPath": "/backend"}],
            }
        )
    return found


def pod(namespace: str, name: str, labels: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 1,
            "containers": containers(name),
            "volumes": [{"name": "backend", "secret": {"secretName": "backend"}}],
        },
    }


def selected(slices: list[Object]) -> list[str]:
    """Return the names of the pods in the slices of a Service; [] if no selector could give these endpoints."""
    found = []
    for one in slices:
        for endpoint in one["endpoints"]:
            if "targetRef" not in endpoint or not endpoint["conditions"].get("ready", True):
                return []
            found.append(endpoint["targetRef"]["name"])
    return found


def services(known: FakeCluster, addresses: dict[str, str]) -> Iterator[Object]:
    """Return Services, and EndpointSlices of the Services without a selector."""
    for (resource, namespace, name), recorded in known.objects.items():
        if resource != "services":
            continue
        made = copy.deepcopy(recorded) | {"apiVersion": "v1", "kind": "Service"}
        made["metadata"] = {"name": name, "namespace": namespace}
        if made["spec"]["type"] == "ExternalName":
            del made["spec"]["ipFamilies"]
        slices = known.slices.get((namespace, name), [])
        if selected(slices):
            made["spec"]["selector"] = {f"in-{name}": "yes"}
        yield made
        for recorded_slice in [] if selected(slices) else slices:
            one = copy.deepcopy(recorded_slice) | {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
            labels = {"kubernetes.io/service-name": name}
            one["metadata"] = {"name": f"{name}-1", "namespace": namespace, "labels": labels}
            for endpoint in one["endpoints"]:
                endpoint["addresses"] = [addresses["b10"]]
            yield one


def access() -> Iterator[Object]:
    """Return roles and bindings for alice and bob."""
    group = "rbac.authorization.k8s.io"

    def binding(namespace: str, name: str, role: str, kind: str, subject: Object) -> Object:
        return {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": kind, "name": role},
            "subjects": [{"apiGroup": group, **subject}],
        }

    yield {
        "apiVersion": f"{group}/v1",
        "kind": "Role",
        "metadata": {"name": "web-proxy", "namespace": "team-a"},
        "rules": RULES,
    }
    yield binding("team-a", "alice-web-proxy", "web-proxy", "Role", {"kind": "User", "name": "alice"})
    yield binding("team-b", "devs-edit", "edit", "ClusterRole", {"kind": "Group", "name": "devs"})


@dataclass
class Live:
    cluster: Cluster
    port: int
    tls: ssl.SSLContext
    tokens: dict[str, str]
    real: dict[str, str]

    async def send(self, recording: replay.Recording) -> replay.Answer:
        return await replay.send(recording, self.port, self.tls, real=self.real, tokens=self.tokens)


@pytest.fixture(scope="module")
def live(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if not cluster.run["private"]:
        pytest.skip("pods must have addresses of their own, because they listen on the recorded ports")
    known = recorded_cluster("", "", "", "10.244.0.0/16", 10250)
    labels: dict[tuple[str, str], dict[str, str]] = {}
    for (namespace, service), slices in known.slices.items():
        for name in selected(slices):
            labels.setdefault((namespace, name), {})[f"in-{service}"] = "yes"
    certificate, key = self_signed(tmp_path_factory.mktemp("live"), ["127.0.0.1"])
    files = {"backend.py": BACKEND, "cert.pem": certificate, "key.pem": key}
    first: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES[1:]
    ]
    for namespace in NAMESPACES:
        first.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "backend", "namespace": namespace},
                "stringData": {name: path.read_text() for name, path in files.items()},
            }
        )
    for namespace in NAMESPACES:
        first += [pod(namespace, name, labels.get((namespace, name), {})) for name in PODS]
    apply(cluster, first)
    for namespace in NAMESPACES:
        cluster.kubectl("wait", "pod", *PODS, "-n", namespace, "--for=condition=Ready", "--timeout=60s")
    addresses = {name: cluster.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}") for name in PODS}
    apply(cluster, [*services(known, addresses), *access()])
    wanted = {key for key, slices in known.slices.items() if slices}
    wait_for(lambda: wanted <= with_endpoints(cluster))
    groups = {"alice": [], "bob": ["--group", "devs", "--group", "testers"]}
    tokens = {user: cluster.token("--user", user, *more) for user, more in groups.items()}
    tokens["admin"] = cluster.token()
    yield Live(
        cluster,
        int(cluster.server.rpartition(":")[2]),
        ssl.create_default_context(cafile=str(cluster.ca)),
        tokens,
        {f"<POD-IP:{name}>": address for name, address in addresses.items()},
    )
    for namespace in NAMESPACES[1:]:
        cluster.kubectl("delete", "namespace", namespace, "--timeout=60s")
    names = [name for (resource, namespace, name) in known.objects if (resource, namespace) == ("services", "default")]
    cluster.kubectl("delete", "service", *names)
    cluster.kubectl("delete", "pod", *PODS, "--timeout=60s")
    cluster.kubectl("delete", "secret", "backend")


def apply(cluster: Cluster, objects: list[Object]) -> None:
    cluster.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def with_endpoints(cluster: Cluster) -> set[tuple[str, str]]:
    """Return the Services that have endpoints at present, ready or not."""
    found = json.loads(cluster.kubectl("get", "endpointslices", "-A", "-o", "json"))["items"]
    return {
        (one["metadata"]["namespace"], one["metadata"]["labels"]["kubernetes.io/service-name"])
        for one in found
        if one.get("endpoints") and "kubernetes.io/service-name" in (one["metadata"].get("labels") or {})
    }


async def test_the_proxy_verb(live: Live) -> None:
    found: dict[str, list[str]] = {}
    for recording in proxy.load():
        number = recording["id"]
        _, changes = DELIBERATE.get(number, ("", {}))
        wanted = replay.expected(recording, changes, live.real)
        answer = await live.send(asked(recording))
        if number in OBJECTS:
            assert identity(wanted["body"]) == identity(answer.body)
            wanted["body"] = answer.body
        if differing := replay.differences(wanted, answer):
            found[number] = differing
    assert found == {}


def identity(body: str) -> tuple[str, str | None]:
    found = json.loads(body)
    return found["kind"], found.get("metadata", {}).get("name")


async def test_the_rest_api(live: Live) -> None:
    cluster = live.cluster
    found: list[str] = []
    try:
        for recording in replay.load("api.jsonl"):
            if recording["body"] is not None:
                recording["headers"] = {"Content-Type": "application/json", **(recording["headers"] or {})}
                recording["body"] = recording["body"].replace("alice-token", live.tokens["alice"])
            answer = await live.send(recording)
            answer.body = answer.body.replace(live.tokens["alice"], "alice-token")
            found += rest.compare(recording, answer, {**REST_DELIBERATE, **LIVE})
    finally:
        # The deletion is forced, because one pod is bound to a node that does not exist: its garbage collection would
        # take 40 s.
        cluster.kubectl("delete", "pods", "--all", "--namespace", "conf", "--force", "--grace-period=0")
        cluster.kubectl("delete", "namespace", "conf", "--ignore-not-found", "--timeout=60s")
    assert not found, "\n".join(found)
