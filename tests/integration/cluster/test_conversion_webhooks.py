"""A custom type whose versions a pod converts, with stock kubectl in a real cluster.

The cases are those of Kubernetes' end-to-end test "CustomResourceConversionWebhook" (`crd_conversion_webhook.go`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from hatchway.cluster.auth import pki
from tests.conftest import Cluster
from tests.integration.api.conversionworld import GROUP, definition, host, versions

NAMESPACE = "converted"
HOSTS = f"hosts.{GROUP}"
PROGRAM = """
import json, ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def converted(obj, wanted):
    spec = obj.get("spec", {})
    if wanted.endswith("/v2") and "address" in spec:
        spec["host"], _, port = spec.pop("address").partition(":")
        spec["port"] = int(port)
    elif wanted.endswith("/v1") and "host" in spec:
        spec["address"] = spec.pop("host") + ":" + str(spec.pop("port"))
    for one, other in (("replicas", "count"), ("count", "replicas")):
        if one in spec and wanted.endswith("/v2" if one == "replicas" else "/v1"):
            spec[other] = spec.pop(one)
            break
    return {**obj, "apiVersion": wanted}

class Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        objects = [converted(one, request["desiredAPIVersion"]) for one in request["objects"]]
        answer = {"uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}}
        body = json.dumps({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("", 8443), Hook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def _apply(cluster: Cluster, obj: dict[str, Any], *options: str) -> None:
    cluster.kubectl("apply", "-n", NAMESPACE, *options, "-f", "-", stdin=json.dumps(obj))


@pytest.fixture(scope="module")
def hooked(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    keys = pki.ensure(
        tmp_path_factory.mktemp("hook") / "pki", cluster_name="h", node_names=["n"], node_ips=["127.0.0.9"]
    )
    pair = keys.issue("hook", "hook", dns=[f"hook.{NAMESPACE}.svc"], server=True)
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("create", "secret", "tls", "hook", "-n", NAMESPACE, f"--cert={pair.cert}", f"--key={pair.key}")
    container = {
        "name": "hook",
        "image": "hatchway/host",
        "command": ["python", "-c", PROGRAM],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1, "failureThreshold": 120},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "tls", "secret": {"secretName": "hook"}}]}
    metadata = {"name": "hook", "labels": {"app": "hook"}}
    _apply(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    service = {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 8443}]}
    _apply(cluster, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": service})
    cluster.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/hook", "--timeout=60s")
    bundle = base64.b64encode(keys.ca_pem).decode()
    made = definition({"service": {"namespace": NAMESPACE, "name": "hook", "path": "/convert"}, "caBundle": bundle})
    _apply(cluster, {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", **made})
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{HOSTS}", "--timeout=30s")
    yield cluster
    cluster.kubectl("delete", "crd", HOSTS, "--ignore-not-found", "--timeout=60s")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def _spec(cluster: Cluster, version: str, name: str) -> Any:
    found = cluster.kubectl("get", f"hosts.{version}.{GROUP}", name, "-n", NAMESPACE, "-o", "jsonpath={.spec}")
    return json.loads(found)


def _redefine(cluster: Cluster, spec: dict[str, Any]) -> None:
    cluster.kubectl("patch", "crd", HOSTS, "--type=merge", "-p", json.dumps({"spec": spec}))


def test_kubectl_uses_both_versions(hooked: Cluster) -> None:
    _redefine(hooked, {"versions": versions("v1")})
    _apply(hooked, host("web", address="localhost:8080", replicas=2))
    assert _spec(hooked, "v1", "web") == {"address": "localhost:8080", "replicas": 2, "note": "one"}
    assert _spec(hooked, "v2", "web") == {"host": "localhost", "port": 8080, "count": 2, "note": "one"}
    # kubectl prefers v2, as does discovery.
    assert hooked.kubectl("get", "hosts", "web", "-n", NAMESPACE, "--no-headers").split() == ["web", "localhost"]
    _apply(hooked, host("web", "v2", host="localhost", port=9090), "--server-side", "--force-conflicts")
    assert _spec(hooked, "v1", "web")["address"] == "localhost:9090"
    hooked.kubectl("scale", f"hosts.v2.{GROUP}/web", "-n", NAMESPACE, "--replicas=5")
    assert _spec(hooked, "v1", "web")["replicas"] == 5
    hooked.kubectl("label", f"hosts.v1.{GROUP}", "web", "-n", NAMESPACE, "seen=yes")
    names = hooked.kubectl("get", f"hosts.v2.{GROUP}", "-n", NAMESPACE, "-l", "seen=yes", "-o", "name")
    assert names.split() == [f"host.{GROUP}/web"]
    hooked.kubectl("delete", f"hosts.v2.{GROUP}", "web", "-n", NAMESPACE)


def test_a_mixed_list_after_a_new_storage_version(hooked: Cluster) -> None:
    _redefine(hooked, {"versions": versions("v1")})
    _apply(hooked, host("one", address="localhost:8080"))
    _redefine(hooked, {"versions": versions("v2")})
    _apply(hooked, host("two", address="localhost:8080"))
    for version, column in (("v1", "localhost:8080"), ("v2", "localhost")):
        lines = hooked.kubectl("get", f"hosts.{version}.{GROUP}", "-n", NAMESPACE, "--no-headers").splitlines()
        assert [one.split() for one in lines if one.split()[0] in ("one", "two")] == [["one", column], ["two", column]]
    assert hooked.kubectl("get", "crd", HOSTS, "-o", "jsonpath={.status.storedVersions}") == '["v1","v2"]'


def test_a_namespace_ends_without_the_webhook(hooked: Cluster) -> None:
    _redefine(hooked, {"versions": versions("v1")})
    hooked.kubectl("create", "namespace", "left")
    hooked.kubectl("apply", "-n", "left", "-f", "-", stdin=json.dumps(host("left", address="localhost:8080")))
    _redefine(hooked, {"versions": versions("v2")})
    config = hooked.kubectl("get", "crd", HOSTS, "-o", "jsonpath={.spec.conversion}")
    _redefine(hooked, {"conversion": {"webhook": {"clientConfig": {"service": {"name": "gone"}}}}})
    try:
        url = f"https://gone.{NAMESPACE}.svc:443/convert[?]timeout=30s"
        failed = f'conversion webhook for {GROUP}/v1, Kind=Host failed: Post "{url}": service "gone" not found'
        for command in (("get",), ("label", "a=b"), ("delete",)):
            with pytest.raises(AssertionError, match=failed):
                hooked.kubectl(command[0], f"hosts.v2.{GROUP}", "left", "-n", "left", *command[1:])
        # Controllers use the stored object, without a conversion.
        hooked.kubectl("delete", "namespace", "left", "--timeout=60s")
    finally:
        _redefine(hooked, {"conversion": json.loads(config)})
