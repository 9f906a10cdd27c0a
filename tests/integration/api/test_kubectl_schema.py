"""A real kubectl reads discovery and OpenAPI, and sends protobuf: against the documents alone, without a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.describe.discovery import Discovery
from hatchway.cluster.api.describe.documents import ServedDocument
from hatchway.cluster.api.describe.openapi import OpenAPI
from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.types import ROWS

KUBECTL = Path(sys.executable).parent / "kubectl"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i}]}\n"

pytestmark = pytest.mark.skipif(not KUBECTL.exists(), reason="kubectl is not installed")


@dataclass
class Server:
    """Answers discovery and OpenAPI; what is posted comes back decoded, checked and defaulted."""

    discovery: Discovery = field(default_factory=lambda: Discovery(ROWS))
    openapi: OpenAPI = field(default_factory=lambda: OpenAPI(ROWS))
    v3: bool = True
    asked: list[str] = field(default_factory=list)
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    address: str = ""
    cache: str = ""

    def document(self, path: str, accept: str) -> ServedDocument | None:
        self.asked.append(path)
        if path == "/openapi/v2":
            return self.openapi.v2(accept)
        if path.startswith("/openapi/v3"):
            rest = path.removeprefix("/openapi/v3").strip("/")
            return None if not self.v3 else self.openapi.v3(rest) if rest else self.openapi.index()
        return self.discovery.document(path, accept)

    def create(self, content_type: str, body: bytes) -> dict[str, Any]:
        obj = schema.decode_protobuf(body) if "protobuf" in content_type else json.loads(body)
        gvk = schema.GVK.of(obj["apiVersion"], obj["kind"])
        checked = schema.check(gvk, obj)
        assert checked.unknown == ()
        self.posted.append((content_type, obj))
        return schema.apply_defaults(gvk, checked.object)

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KUBECTL, "--server", self.address, "--cache-dir", self.cache, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "KUBECONFIG": os.devnull},
            check=False,
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(cache=str(tmp_path / "cache"))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            document = found.document(self.path.partition("?")[0], self.headers.get("Accept", ""))
            if document is None:
                self.answer(404, b"{}")
            else:
                self.answer(200, document.body, document.content_type)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201, json.dumps(found.create(self.headers["Content-Type"], body)).encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        found.address = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield found
        listener.shutdown()
        thread.join()


def test_api_resources(server: Server) -> None:
    done = server.kubectl("api-resources", "--no-headers", "-o", "name")
    assert done.returncode == 0, done.stderr
    expected = {f"{row.plural}.{row.group}" if row.group else row.plural for row in ROWS}
    assert set(done.stdout.split()) == expected
    assert set(server.asked) == {"/api", "/apis"}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("pod.spec.containers.ports", "FIELD: ports <[]ContainerPort>"),
        ("deployments", "KIND:       Deployment"),
        ("services.spec.type", "LoadBalancer"),
        ("endpointslices", "GROUP:      discovery.k8s.io"),
    ],
)
def test_explain(server: Server, what: str, expected: str) -> None:
    done = server.kubectl("explain", what)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_create_sends_protobuf(server: Server) -> None:
    done = server.kubectl("create", "deployment", "web", "--image=python:3.11", "--replicas=3", "--port=8080")
    assert done.returncode == 0, done.stderr
    content_type, obj = server.posted[0]
    assert content_type == "application/vnd.kubernetes.protobuf"
    assert obj["spec"]["replicas"] == 3
    assert obj["spec"]["template"]["spec"]["containers"][0]["ports"] == [{"containerPort": 8080}]


def test_validation_is_left_to_the_server(server: Server) -> None:
    done = server.kubectl("create", "-f", "-", stdin=POD)
    assert done.returncode == 0, done.stderr
    assert "/openapi/v3/api/v1" in server.asked
    assert "/openapi/v2" not in server.asked


def test_without_v3_kubectl_falls_back_to_v2(server: Server) -> None:
    server.v3 = False
    done = server.kubectl("create", "-f", "-", stdin=POD)
    assert done.returncode == 0, done.stderr
    assert "/openapi/v2" in server.asked
    done = server.kubectl("explain", "pod.spec.containers")
    assert "RESOURCE: containers <[]Object>" in done.stdout
