"""The service proxy beside nginx's stream module: `.venv/bin/python bench/services.py [--only NAME ...] [--rounds N]`.

A new cluster (`hatchway up`) runs an nginx behind a Service; rounds of both proxies are interleaved.

    node-port   from this machine: 127.0.0.1:NODEPORT, beside one nginx worker on this machine in front of an nginx here
    cluster-ip  from a pod: the ClusterIP, beside one nginx worker in a pod with hostNetwork in front of the same pod
    rules       the most processor time for one change of a Service with 100 ports and 2,000 endpoints
    removal     one of two endpoints is removed while 32 connections are in use: failed requests, and how long after the
                change the removed pod still gets new connections

For the first two: new connections/s (each with one small HTTP request) with 32 at once, and MiB/s of established
connections. The load, both proxies and the pod share the machine, so the processor time is printed, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from bench.doors import PROGRAMS, goal
from hatchway.cluster import plan
from hatchway.cluster.services.nodeplaces import NodePlaces
from hatchway.cluster.services.ruletable import RuleTable
from hatchway.cluster.services.servicerules import RuleMaker
from tests.freeports import free_port

_NAMES = ("node-port", "cluster-ip", "rules", "removal")
_HTTP, _STREAM = 8080, 8090
_BIG_MIB = 64
_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

_BACKEND = """
user root; daemon off; master_process off; worker_processes 1; pid {directory}/backend.pid;
error_log {directory}/backend.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; server_tokens off; sendfile on;
  client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{
    listen {address}:{port} backlog=4096;
    location / {{ default_type text/plain; return 200 'ok\\n'; }}
    location /big {{ root {directory}; }}
  }}
}}
"""
_PROXY = """
load_module {module};
user root; daemon off; master_process off; worker_processes 1; pid {directory}/stream.pid;
error_log {directory}/stream.log crit;
events {{ worker_connections 8192; }}
stream {{
  server {{ listen {address}:{port} backlog=4096; proxy_pass {backend}; tcp_nodelay on; }}
}}
"""
# The script with which a pod starts: it fills the directory into the configuration, makes the large file, and runs
# nginx.
_START = """
mkdir -p /tmp/n; sed "s#DIRECTORY#/tmp/n#g" /etc/bench/{config} > /tmp/n/nginx.conf
head -c {size} /dev/zero > /tmp/n/big
exec {nginx} -p /tmp/n -c /tmp/n/nginx.conf -e /tmp/n/error.log
"""
# Answers with its pod's name, and records the time of every connection of the load.
_NOTES = """
import http.server, json, os, threading, time
taken, name = [], os.environ["NAME"]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def setup(self):
        self.began = time.time()
        super().setup()
    def do_GET(self):
        if self.path == "/":
            taken.append(self.began)
        body = json.dumps(taken if self.path == "/taken" else name).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(("", 8080), Handler).serve_forever()
"""
_CLOSE = 'wrk.headers["Connection"] = "close"\n'


@dataclass(frozen=True, slots=True)
class Rate:
    """One round of load: requests and MiB per second, failed requests, the proxy's CPU time for a request (µs)."""

    requests: float
    mib: float
    errors: int
    cpu: float


class Bench:
    """A running cluster with the pods. directory: the directory for all files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.where = ["--name", "bench-services", "--state-dir", str(directory / "state")]
        self.run: dict[str, Any] = {}

    def up(self) -> None:
        """Start the cluster."""
        command = [str(PROGRAMS / "hatchway"), "up", *self.where, "--kubeconfig", str(self.kubeconfig)]
        command += ["--api-port", str(free_port()), "--detach", "--nodes", "1", "--no-addons"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.run = json.loads((self.directory / "state/bench-services/run.json").read_text())

    def down(self) -> None:
        """Stop the cluster."""
        command = [str(PROGRAMS / "hatchway"), "down", *self.where]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """Run kubectl; return its output."""
        program = shutil.which("kubectl", path=f"{PROGRAMS}:/usr/bin:/usr/local/bin") or "kubectl"
        command = [program, "--kubeconfig", str(self.kubeconfig), *words]
        return subprocess.run(command, check=True, input=text, text=True, capture_output=True).stdout

    def agent(self) -> int:
        """Return the process ID of the node agent, which contains the service proxy."""
        for found in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"hatchway.cluster.nodeagent" in found.read_bytes().split(b"\0"):
                    environment = (found.parent / "environ").read_bytes()
                    if str(self.directory).encode() in environment:
                        return int(found.parent.name)
        raise SystemExit("the node agent's process was not found")


def _pod(name: str, config: str, *, host: bool, port: int) -> dict[str, Any]:
    start = _START.format(config=config, nginx=peers.nginx(), size=0 if host else _BIG_MIB << 20)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "hostNetwork": host,
            "nodeName": "node-1",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "c",
                    "image": "hatchway/host",
                    "command": ["sh", "-c", start],
                    "ports": [{"containerPort": port}],
                    "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "config", "mountPath": "/etc/bench"}],
                }
            ],
            "volumes": [{"name": "config", "configMap": {"name": "bench"}}],
        },
    }


def _service(name: str, selector: str, node_port: int | None = None) -> dict[str, Any]:
    port = {"port": 80, "targetPort": _HTTP} | ({"nodePort": node_port} if node_port else {})
    spec = {"type": "NodePort", "selector": {"app": selector}, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _wrk(prefix: list[str], url: str, connections: int, seconds: float, pid: int, script: str = "") -> Rate:
    command = [*prefix, "wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s"]
    if script:
        command += ["-s", script]
    before = peers.cpu_seconds(pid)
    text = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    spent = peers.cpu_seconds(pid) - before
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    moved = re.search(r"Transfer/sec:\s+([0-9.]+)(KB|MB|GB)", text)
    done = re.search(r"(\d+) requests in", text)
    if rate is None or moved is None or done is None:
        raise RuntimeError(f"wrk printed something unexpected:\n{text}")
    errors = sum(int(found) for found in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    mib = float(moved[1]) * {"KB": 1 / 1024, "MB": 1.0, "GB": 1024.0}[moved[2]]
    return Rate(float(rate[1]), mib, errors, spent * 1e6 / max(1, int(done[1])))


def _compare(name: str, ours: Callable[..., Rate], theirs: Callable[..., Rate], rounds: int, seconds: float) -> None:
    """Measure new connections, then one and eight established ones, in interleaved rounds; print both medians."""
    for what, path, connections, least in (
        ("new connections/s", "/", 32, 0.5),
        ("MiB/s, 1 connection", "/big", 1, 0.9),
        ("MiB/s, 8 connections", "/big", 8, 0.9),
    ):
        fresh = path == "/"
        pairs = [
            (ours(path, connections, seconds, fresh), theirs(path, connections, seconds, fresh)) for _ in range(rounds)
        ]
        values = [[(one.requests if fresh else one.mib) for one in side] for side in zip(*pairs, strict=True)]
        cpu = [[(one.cpu if fresh else one.cpu / _BIG_MIB) for one in side] for side in zip(*pairs, strict=True)]
        found = statistics.median(mine / his for mine, his in zip(*values, strict=True))
        unit = "a connection" if fresh else "a MiB"
        for side, label in enumerate(("hatchway", "nginx")):
            errors = sum(pair[side].errors for pair in pairs)
            print(
                f"  {name:<11} {what:<21} {label:<9} {statistics.median(values[side]):>9.0f}"
                f"   {statistics.median(cpu[side]):7.1f} us CPU for {unit}   {errors} errors"
            )
        goal(f"{name}: {what} beside one nginx worker, at least {least}", found, found >= least)


@contextlib.contextmanager
def _nginx(directory: Path, name: str, text: str, port: int) -> Iterator[int]:
    config = directory / f"{name}.conf"
    config.write_text(text)
    command = [peers.nginx(), "-p", str(directory), "-c", str(config), "-e", str(directory / f"{name}.log")]
    with peers.running(command, port) as process:
        yield process.pid


def node_port(bench: Bench, rounds: int, seconds: float) -> None:
    """Compare 127.0.0.1:NODEPORT with nginx on this machine."""
    port = int(bench.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"))
    backend, stream = free_port(), free_port()
    here = bench.directory / "here"
    here.mkdir()
    with open(here / "big", "wb") as file:
        file.truncate(_BIG_MIB << 20)
    script = bench.directory / "close.lua"
    script.write_text(_CLOSE)
    text = _BACKEND.format(directory=here, address="127.0.0.1", port=backend)
    proxy = _PROXY.format(
        module=_MODULE, directory=here, address="127.0.0.1", port=stream, backend=f"127.0.0.1:{backend}"
    )
    with _nginx(here, "backend", text, backend), _nginx(here, "stream", proxy, stream) as pid:

        def load(at: int, process: int) -> Callable[..., Rate]:
            return lambda path, connections, long, fresh: _wrk(
                [], f"http://127.0.0.1:{at}{path}", connections, long, process, str(script) if fresh else ""
            )

        _compare("node-port", load(port, bench.agent()), load(stream, pid), rounds, seconds)


def cluster_ip(bench: Bench, rounds: int, seconds: float) -> None:
    """Compare a ClusterIP with nginx in a pod that uses the node's network."""
    address = bench.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    prefix = ["kubectl", "--kubeconfig", str(bench.kubeconfig), "exec", "client", "--"]
    nginx = next(
        int(found.parent.name)
        for found in Path("/proc").glob("[0-9]*/cmdline")
        if b"nginx" in found.read_bytes() and b"/tmp/n/nginx.conf" in found.read_bytes() and _is_stream(found.parent)
    )

    def load(at: str, process: int) -> Callable[..., Rate]:
        return lambda path, connections, long, fresh: _wrk(
            prefix, f"http://{at}{path}", connections, long, process, "/etc/bench/close.lua" if fresh else ""
        )

    _compare("cluster-ip", load(address, bench.agent()), load(f"{plan.node_ip(1)}:{_STREAM}", nginx), rounds, seconds)


def _is_stream(process: Path) -> bool:
    with contextlib.suppress(OSError):
        return "ngx_stream" in (process / "maps").read_text()
    return False


def rules() -> None:
    """Measure changes of a Service with very many ports and endpoints."""
    ports = [{"name": f"p{number}", "port": number + 1} for number in range(100)]
    spec = {"clusterIP": "10.96.3.4", "ports": ports}
    table = RuleTable(RuleMaker(NodePlaces()))
    table.service_changed("ADDED", {"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})
    slices = [
        {
            "metadata": {"name": f"web-{n}", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": ports,
            "endpoints": [{"addresses": [f"10.{n}.0.{last}"], "conditions": {"ready": True}} for last in range(100)],
        }
        for n in range(20)
    ]
    for found in slices:
        table.slice_changed("ADDED", found)
    longest = 0.0
    for change in range(20):
        began = time.process_time()
        table.slice_changed("MODIFIED", {**slices[change], "endpoints": slices[change]["endpoints"][:-1]})  # type: ignore[index]
        while table.changed:
            known = table.take_changes()
        first = [rule.endpoints.choose() for rule in known.values() if rule is not None]
        assert len(first) == 100
        longest = max(longest, time.process_time() - began)
    goal("rules: one change with 100 ports and 2,000 endpoints, at most 50 ms of CPU", longest * 1e3, longest < 0.05)


def removal(bench: Bench) -> None:
    """Remove one of two endpoints while 32 clients send requests."""
    pods = []
    for name in ("stays", "goes"):
        container = {
            "name": "c",
            "image": "hatchway/host",
            "command": ["python3", "-c", _NOTES],
            "env": [{"name": "NAME", "value": name}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        }
        metadata = {"name": name, "labels": {"app": "both", "one": name}}
        spec = {"nodeName": "node-1", "terminationGracePeriodSeconds": 0, "containers": [container]}
        pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    objects = [*pods, _service("both", "both"), _service("goes", "goes")]
    objects[-1]["spec"]["selector"] = {"one": "goes"}
    bench.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    bench.kubectl("wait", "--for=condition=Ready", "pod", "stays", "goes", "--timeout=60s")
    both, goes = (
        f"http://127.0.0.1:{bench.kubectl('get', 'service', name, '-o', 'jsonpath={.spec.ports[0].nodePort}')}"
        for name in ("both", "goes")
    )
    ended = threading.Event()
    failed: list[str] = []
    done: list[str] = []

    def ask() -> None:
        while not ended.is_set():
            try:
                with urllib.request.urlopen(both, timeout=10) as answer:
                    done.append(json.loads(answer.read()))
            except OSError as error:
                failed.append(str(error))

    time.sleep(1)
    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    bench.kubectl("label", "pod", "goes", "app-")
    changed = time.time()
    time.sleep(3)
    ended.set()
    for thread in threads:
        thread.join()
    with urllib.request.urlopen(f"{goes}/taken", timeout=10) as answer:
        taken = json.loads(answer.read())
    late = max((moment - changed for moment in taken if moment > changed), default=0.0)
    print(f"  removal     {len(done)} requests, {done.count('goes')} at the pod that went")
    goal("removal: failed requests, none", len(failed), not failed)
    goal(
        "removal: last new connection of the removed pod after the API's change, at most 100 ms", late * 1e3, late < 0.1
    )


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=_NAMES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    wanted = given.only or _NAMES
    if not _MODULE.exists():
        raise SystemExit("nginx's stream module is not installed (apt-get install libnginx-mod-stream)")
    if "rules" in wanted:
        rules()
    if set(wanted) == {"rules"}:
        return
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as directory:
        bench = Bench(Path(directory))
        bench.up()
        try:
            _run(bench, wanted, given.rounds, given.seconds)
        finally:
            bench.down()


def _run(bench: Bench, wanted: tuple[str, ...] | list[str], rounds: int, seconds: float) -> None:
    backend = _BACKEND.format(directory="DIRECTORY", address="0.0.0.0", port=_HTTP)
    service = json.dumps({"apiVersion": "v1", "kind": "List", "items": [_service("web", "web")]})
    bench.kubectl("apply", "-f", "-", text=service)
    address = bench.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    assert address
    data = {"backend.conf": backend, "close.lua": _CLOSE}
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench"}, "data": data},
        _pod("web", "backend.conf", host=False, port=_HTTP),
        _pod("client", "backend.conf", host=False, port=_HTTP),
    ]
    bench.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    bench.kubectl("wait", "--for=condition=Ready", "pod", "web", "client", "--timeout=60s")
    if "cluster-ip" in wanted:
        ip = bench.kubectl("get", "pod", "web", "-o", "jsonpath={.status.podIP}")
        data["stream.conf"] = _PROXY.format(
            module=_MODULE, directory="DIRECTORY", address="0.0.0.0", port=_STREAM, backend=f"{ip}:{_HTTP}"
        )
        objects[1:] = [_pod("stream", "stream.conf", host=True, port=_STREAM)]
        bench.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        bench.kubectl("wait", "--for=condition=Ready", "pod", "stream", "--timeout=60s")
    if "node-port" in wanted:
        node_port(bench, rounds, seconds)
    if "cluster-ip" in wanted:
        cluster_ip(bench, rounds, seconds)
    if "removal" in wanted:
        removal(bench)


if __name__ == "__main__":
    main()
