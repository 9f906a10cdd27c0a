"""Pods that report which other pods they reach, as in Kubernetes' own tests (test/e2e/network/netpol)."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import Cluster, wait_for
from tests.integration.services.echoes import apply

# The program of a pod. It answers with the pod's name on TCP 80 and 81, and on UDP 80. HTTP requests to port 7000 are
# orders (the keys of WORK): `ask` connects to other pods; `open` opens connections and keeps them; `use` sends
# data on these; `forge` sends a datagram with any source address; `seen` returns the received datagrams.
REACH = """
import errno, http.server, json, os, socket, socketserver, struct, threading, urllib.parse
from concurrent.futures import ThreadPoolExecutor
name, kept, seen = os.environ["NAME"], {}, []
def ask(kind, host, port):
    try:
        if kind == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.25)
                sock.connect((host, port))
                for attempt in range(6):
                    sock.send(b"?")
                    try:
                        return sock.recv(65536).decode()
                    except TimeoutError:
                        pass
                return "timed out"
        with socket.create_connection((host, port), timeout=20) as sock:
            return "connected" if kind == "connect" else sock.makefile().readline().strip() or "closed"
    except socket.gaierror:
        return "no such name"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "timed out")
def open_one(kind, host, port):
    if kind == "ping":
        kept[kind, host, port] = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        sock.settimeout(1)
        sock.connect((host, 0))
        return use_one(kind, host, port)
    kept[kind, host, port] = sock = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    # Tests that expect an answer by UDP repeat the question.
    sock.settimeout(1 if kind == "udp" else 5)
    sock.connect((host, port))
    return use_one(kind, host, port) if kind == "udp" else sock.makefile().readline().strip()
def use_one(kind, host, port):
    sock = kept[kind, host, port]
    try:
        if kind == "ping":
            sock.sendall(struct.pack(">BBHHH", 8, 0, 0, 1, 1))
            return "answer" if sock.recv(100)[0] == 0 else "error"
        sock.sendall(b"again\\n")
        return sock.recv(65536).decode().strip()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "timed out")
def forge(source, target, text):
    data = struct.pack(">HHHH", 5353, 80, 8 + len(text), 0) + text.encode()
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), 7, 0, 64, 17, 0) + addresses
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(head + data, (target, 0))
WORK = {"ask": ask, "open": open_one, "use": use_one, "forge": forge, "seen": lambda: seen}
class Control(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        what, arguments = json.loads(urllib.parse.unquote(self.path.partition("?")[2]))
        with ThreadPoolExecutor(32) as pool:
            found = list(pool.map(lambda one: WORK[what](*one), arguments))
        answer = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(name.encode() + b"\\n")
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        seen.append(self.request[0].decode())
        self.request[1].sendto(name.encode(), self.client_address)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64
class Web(http.server.ThreadingHTTPServer):
    request_queue_size = 64
servers = Server(("", 80), Tcp), Server(("", 81), Tcp), socketserver.UDPServer(("", 80), Udp), Web(("", 7000), Control)
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
"""

# A way to reach a pod: protocol and port.
Way = tuple[str, int]
WAYS: tuple[Way, ...] = (("tcp", 80), ("tcp", 81), ("udp", 80))


@dataclass
class Reach:
    """Pods in several namespaces. Their names here are `NAMESPACE/POD`. ips: name -> address."""

    cluster: Cluster
    ips: dict[str, str] = field(default_factory=dict)

    def start(self, pods: Iterable[dict[str, Any]]) -> None:
        """Make pods (see `pod`), and wait until they are ready."""
        by_namespace: dict[str, list[dict[str, Any]]] = {}
        for one in pods:
            by_namespace.setdefault(one["metadata"]["namespace"], []).append(one)
        for namespace, ones in by_namespace.items():
            apply(self.cluster, namespace, *ones)
        for namespace in by_namespace:
            self.cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod", "--all", "--timeout=120s")
            for item in json.loads(self.cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]:
                self.ips[f"{namespace}/{item['metadata']['name']}"] = item["status"]["podIP"]

    def order(self, pod: str, what: str, *arguments: tuple[object, ...]) -> list[Any]:
        """Send an order to a pod (see REACH); return the results. The proxy verb connects to the pod from its node."""
        namespace, name = pod.split("/")
        query = urllib.parse.quote(json.dumps([what, arguments]))
        found: list[Any] = self.cluster.get(f"/api/v1/namespaces/{namespace}/pods/{name}:7000/proxy/?{query}").json
        return found

    def reached(self, sources: Iterable[str] = (), ways: Iterable[Way] = WAYS) -> set[tuple[str, str, Way]]:
        """Return (source, target, way) of all connections that work."""
        targets = [(target, way) for target in self.ips for way in ways]
        out = set()
        for source in sources or list(self.ips):
            answers = self.order(source, "ask", *((way[0], self.ips[target], way[1]) for target, way in targets))
            for (target, way), answer in zip(targets, answers, strict=True):
                # The kernel limits the rate of errors for forbidden datagrams, so some get no error and time out.
                refusals = ("ECONNREFUSED", "EHOSTUNREACH", *(("timed out",) if way[0] == "udp" else ()))
                assert answer in (target, *refusals), (source, target, way, answer)
                if answer == target:
                    out.add((source, target, way))
        return out

    def expect(
        self,
        allowed: Callable[[str, str, Way], bool],
        *,
        sources: Iterable[str] = (),
        ways: Iterable[Way] = WAYS,
    ) -> None:
        """Wait until only the allowed connections work, and those of each pod to itself, which are always allowed."""
        ways, sources = list(ways), list(sources or self.ips)
        wanted = {
            (source, target, way)
            for source in sources
            for target in self.ips
            for way in ways
            if source == target or allowed(source, target, way)
        }
        found: set[tuple[str, str, Way]] = set()

        def settled() -> bool:
            nonlocal found
            found = self.reached(sources, ways)
            return found == wanted

        try:
            wait_for(settled)
        except AssertionError:
            if not found:
                raise
            difference = {"works": sorted(found - wanted), "does not": sorted(wanted - found)}
            raise AssertionError(f"not as allowed: {difference}") from None


def pod(namespace: str, name: str, node: str, *, host_network: bool = False) -> dict[str, Any]:
    """Return a pod that runs REACH on a node. Its label `pod` is its name."""
    container = {
        "name": "reach",
        "image": "hatchway/host",
        "command": ["python3", "-c", REACH],
        "env": [{"name": "NAME", "value": f"{namespace}/{name}"}],
        "ports": [
            {"name": "first", "containerPort": 80},
            {"name": "second", "containerPort": 81},
            {"name": "ask", "containerPort": 80, "protocol": "UDP"},
        ],
        "readinessProbe": {"tcpSocket": {"port": 7000}, "periodSeconds": 1, "timeoutSeconds": 30},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"pod": name}},
        "spec": {
            "nodeName": node,
            "hostNetwork": host_network,
            "terminationGracePeriodSeconds": 0,
            # With these options, lookups without an answer fail soon.
            "dnsConfig": {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "1"}]},
            "containers": [container],
        },
    }


def policy(name: str, pods: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return a NetworkPolicy. pods: the labels of the pods that it selects."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": pods}, **spec},
    }
