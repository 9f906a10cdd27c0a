"""`hatchway forward`, and the door by port-forward, in front of an embedded cluster whose pods end while in use."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import BIN, Cluster, wait_for
from tests.door import door_of

_NAMESPACE = "forwarded"
# Answers each request with the pod's name and the request's Authorization.
_SERVER = """
import http.server, os, socket, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{os.environ['HOSTNAME']} {self.command} {self.headers['Authorization']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_PROPFIND = do_GET
    def log_message(self, *_): pass
class OnIpv6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
threading.Thread(target=OnIpv6(("::1", 8082), Handler).serve_forever).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[Cluster]:
    container = {
        "name": "web",
        "image": "hatchway/shell",
        "command": ["python3", "-c", _SERVER],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
    }
    labels = {"app": "web"}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": _NAMESPACE},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": _NAMESPACE},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
    ]
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    cluster.kubectl("rollout", "status", "deploy/web", "-n", _NAMESPACE, "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")


def _ask(port: int, host: str = "localhost", method: str = "GET") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, "/", headers={"Host": host, "Authorization": "Basic amFuZTpz"})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text
    finally:
        connection.close()


def _ask_again(port: int) -> str:
    """Send a request; repeat it if the connection fails because its pod ended, as HTTP clients do for GET."""
    try:
        return _ask(port)
    except (OSError, http.client.HTTPException):
        return _ask(port)


@contextlib.contextmanager
def forwarding(web: Cluster, target: str, port: int) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Run `hatchway forward` for a port; yield its process, its first line and its local port."""
    command = [BIN / "hatchway", "forward", target, f":{port}", "-n", _NAMESPACE, "--kubeconfig", web.kubeconfig]
    with subprocess.Popen([*command, "--wait"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield process, line, int(line.partition(" -> ")[0].rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(20)


def test_connections_go_on_while_every_pod_is_replaced(web: Cluster) -> None:
    with forwarding(web, "web", 80) as (process, _, port):
        before = {_ask(port).split()[0] for _ in range(8)}
        assert len(before) == 2
        for pod in before:
            web.kubectl("delete", "pod", pod, "-n", _NAMESPACE, "--grace-period=0", "--force")
            for _ in range(10):
                _ask_again(port)
        names: set[str] = set()

        def replaced() -> bool:
            names.add(_ask_again(port).split()[0])
            return len(names - before) == 2

        wait_for(replaced, seconds=60)
        assert process.poll() is None


def test_a_program_that_listens_on_ipv6_only_is_reached(web: Cluster) -> None:
    with forwarding(web, "deploy/web", 8082) as (_, _, port):
        assert "GET" in _ask(port)


def test_a_deployment_is_followed_through_a_rollout(web: Cluster) -> None:
    with forwarding(web, "deploy/web", 8080) as (_, line, port):
        assert f"-> deploy/web:8080 in namespace {_NAMESPACE}" in line
        before = {_ask_again(port).split()[0] for _ in range(8)}
        web.kubectl("rollout", "restart", "deploy/web", "-n", _NAMESPACE)
        web.kubectl("rollout", "status", "deploy/web", "-n", _NAMESPACE, "--timeout=60s")
        wait_for(lambda: not {_ask_again(port).split()[0] for _ in range(8)} & before, seconds=60)


def test_the_door_carries_everything_by_port_forward(web: Cluster) -> None:
    with door_of(web, "--via=forward") as door:
        seen = _ask(door.port, f"web.{_NAMESPACE}.svc.localhost:{door.port}", "PROPFIND")
        assert seen.split()[1:] == ["PROPFIND", "Basic", "amFuZTpz"]
