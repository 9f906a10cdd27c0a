"""Admission webhooks with stock kubectl in a real cluster: a pod behind a Service changes or refuses objects."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from hatchway.cluster.auth import pki
from tests.conftest import Cluster, wait_for

NAMESPACE = "hooked"
PROGRAM = """
import base64, json, ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        answer = {"uid": request["uid"], "allowed": True}
        if self.path.startswith("/mutate"):
            patch = [{"op": "add", "path": "/metadata/labels", "value": {"hooked": "yes"}}]
            answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        elif request["operation"] == "CONNECT" or (request["object"].get("data") or {}).get("secret"):
            answer |= {"allowed": False, "status": {"code": 403, "message": "no secrets here"}}
        else:
            answer["warnings"] = ["looked at"]
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
SELECTED = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}


def _webhook(path: str, bundle: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{path}.hooks.example.com",
        "clientConfig": {
            "service": {"namespace": NAMESPACE, "name": "hook", "path": f"/{path}"},
            "caBundle": bundle,
        },
        "rules": [{"apiVersions": ["v1"], "apiGroups": [""], **one} for one in rules],
        "namespaceSelector": SELECTED,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }


def _apply(cluster: Cluster, obj: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(obj))


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
    ports = [{"port": 443, "targetPort": 8443}]
    service = {"selector": {"app": "hook"}, "ports": ports}
    _apply(cluster, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": service})
    cluster.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/hook", "--timeout=60s")
    bundle = base64.b64encode(keys.ca_pem).decode()
    maps = {"operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
    commands = {"operations": ["CONNECT"], "resources": ["pods/exec"]}
    version = "admissionregistration.k8s.io/v1"
    for kind, webhook in (
        ("Mutating", _webhook("mutate", bundle, maps)),
        ("Validating", _webhook("validate", bundle, maps, commands)),
    ):
        _apply(
            cluster,
            {
                "apiVersion": version,
                "kind": f"{kind}WebhookConfiguration",
                "metadata": {"name": "hooked"},
                "webhooks": [webhook],
            },
        )
    yield cluster
    for kind in ("mutating", "validating"):
        cluster.kubectl("delete", f"{kind}webhookconfiguration", "hooked", "--ignore-not-found")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _create(cluster: Cluster, name: str, *literals: str) -> str:
    found = [f"--from-literal={one}" for one in literals]
    return cluster.kubectl("create", "configmap", name, "-n", NAMESPACE, *found)


def test_a_pod_behind_a_service_changes_refuses_and_fails(hooked: Cluster) -> None:
    # An EndpointSlice may take a moment to follow the pod's readiness.
    wait_for(lambda: "created" in hooked.kubectl("create", "configmap", "try", "-n", NAMESPACE, check=False))
    _create(hooked, "plain", "a=b")
    assert hooked.kubectl("get", "configmap", "plain", "-n", NAMESPACE, "-o", "jsonpath={.metadata.labels}") == (
        '{"hooked":"yes"}'
    )
    with pytest.raises(AssertionError, match=r'admission webhook "validate.hooks.example.com" denied the request: no'):
        _create(hooked, "secret", "secret=x")
    with pytest.raises(AssertionError, match="no secrets here"):
        hooked.kubectl("exec", "-n", NAMESPACE, "hook", "--", "true")
    # The namespace selector does not match other namespaces.
    hooked.kubectl("create", "configmap", "not-hooked", "--from-literal=secret=x")
    hooked.kubectl("delete", "configmap", "not-hooked")
    shown = hooked.kubectl("get", "validatingwebhookconfigurations", "hooked", "--no-headers").split()
    assert shown[:2] == ["hooked", "1"]

    # An unreachable webhook refuses or is ignored, by its failurePolicy; without its configuration all writes work.
    hooked.kubectl("delete", "service", "hook", "-n", NAMESPACE)
    with pytest.raises(AssertionError, match=r'failed calling webhook "mutate.hooks.example.com": .*not found'):
        _create(hooked, "refused")
    change = json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}])
    for kind in ("mutating", "validating"):
        hooked.kubectl("patch", f"{kind}webhookconfiguration", "hooked", "--type=json", "-p", change)
    _create(hooked, "ignored", "secret=x")
    for kind in ("mutating", "validating"):
        hooked.kubectl("delete", f"{kind}webhookconfiguration", "hooked")
    _create(hooked, "after", "secret=x")
