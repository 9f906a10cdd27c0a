"""Pods that answer with their names, and clients for them, in a pod and on this machine."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable
from typing import Any

from tests.conftest import Cluster

# A server that answers with its pod's name: HTTP on 8080, TCP on 9090 (then it echoes), UDP on 5353.
ECHO = """
import http.server, os, socket, socketserver, threading
name, ip = socket.gethostname(), os.environ.get("HATCHWAY_POD_IP", "")
name = os.environ.get("NAME") or name
class Http(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(name.encode())
    def log_message(self, *_):
        pass
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(name.encode() + b"\\n")
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(name.encode(), self.client_address)
socketserver.TCPServer.allow_reuse_address = True
servers = (
    http.server.ThreadingHTTPServer((ip, 8080), Http),
    socketserver.ThreadingTCPServer((ip, 9090), Tcp),
    socketserver.UDPServer((ip, 5353), Udp),
)
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
"""

# A client that connects to each [kind, host, port] of its argument; prints the answers, or the names of errors.
ASK = """
import errno, json, socket, sys
def ask(kind, host, port):
    try:
        if kind == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.3)
                sock.connect((host, port))
                for attempt in range(20):
                    sock.send(b"?")
                    try:
                        return sock.recv(65536).decode()
                    except TimeoutError:
                        pass
                return "timed out"
        with socket.create_connection((host, port), timeout=10) as sock:
            if kind == "http":
                sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
                return answer.split()[1] + " " + answer.partition("\\r\\n\\r\\n")[2]
            return sock.makefile().readline().strip()
    except socket.gaierror:
        return "no such name"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "timed out")
print(json.dumps([ask(*each) for each in json.loads(sys.argv[1])]))
"""

# [kind, host, port]
Question = tuple[str, str, int]


def ask_from_pod(cluster: Cluster, namespace: str, pod: str, questions: Iterable[Question]) -> list[str]:
    """Send requests from inside a pod; return the answers, or the names of errors."""
    arguments = ("exec", "-n", namespace, pod, "--", "python3", "-c", ASK, json.dumps(list(questions)))
    found: list[str] = json.loads(cluster.kubectl(*arguments))
    return found


def ask_from_host(kind: str, host: str, port: int) -> str:
    """Send a request from this machine; return the answer, or the error's name."""
    found: dict[str, Any] = {"__name__": "ask"}
    exec(ASK.rpartition("print(")[0], found)
    answer: str = found["ask"](kind, host, port)
    return answer


def free_node_ports(count: int) -> list[int]:
    """Return node ports that are free on this machine, for TCP and for UDP."""
    found: list[int] = []
    for port in random.sample(range(31000, 32768), 1700):
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.bind(("0.0.0.0", port))
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            break
    return found


def echo_pod(name: str, node: str, labels: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return a pod that runs ECHO on a node."""
    container = {
        "name": "echo",
        "image": "hatchway/host",
        "command": ["python3", "-c", ECHO],
        "env": [{"name": "NAME", "value": name}],
        "ports": [
            {"name": "web", "containerPort": 8080},
            {"name": "talk", "containerPort": 9090},
            {"name": "ask", "containerPort": 5353, "protocol": "UDP"},
        ],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
        **more,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def service(name: str, *ports: dict[str, Any], selector: dict[str, str] | None, **spec: Any) -> dict[str, Any]:
    """Return a Service."""
    more = {} if selector is None else {"selector": selector}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": list(ports), **more, **spec},
    }


def apply(cluster: Cluster, namespace: str, *objects: dict[str, Any]) -> None:
    """Apply objects by kubectl."""
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(listed))


def get(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """Return a Service."""
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "service", "-n", namespace, name, "-o", "json"))
    return found


def messages(cluster: Cluster, namespace: str, name: str, reason: str) -> list[str]:
    """Return the messages of a Service's events with a reason."""
    selector = f"involvedObject.kind=Service,involvedObject.name={name},reason={reason}"
    listed = cluster.kubectl("get", "events", "-n", namespace, "--field-selector", selector, "-o", "json")
    return [event["message"] for event in json.loads(listed)["items"]]
