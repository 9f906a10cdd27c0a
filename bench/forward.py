"""Forwards beside kubectl's: `.venv/bin/python bench/forward.py [--only NAME ...] [--rounds N] [--seconds S]`.

A cluster of its own (`hatchway up`) runs a pod behind a Service. `hatchway forward` and `kubectl port-forward` lead to
the same pod at the same time; rounds are interleaved.

    bulk       bytes/s of one connection, down and up, and the client's processor time for a gibibyte
    short      new connections/s, 16 at a time, each with one small HTTP request, and the client's time for a connection
    parallel   200 transfers at once, 20 of them aborted midway: how many of the other 180 arrive complete
    killed     failed HTTP requests, after one retry, to a Deployment of 3 pods, of which one is killed every 2 s
    restart    the cluster is stopped and started again: how much later than the cluster itself a forward works again
    door       requests/s of `hatchway proxy` by port-forward, beside the requests/s by the API server's proxy verb
    idle       memory of the door's process with 5,000 idle WebSockets by port-forward

The cluster, the load and both clients share one machine. If other programs use the machine, too, the processor time is
more reliable than the rates. Both clients use the same API server, but not the same protocol: kubectl's connections
pass through the kubelet, as in Kubernetes, and Hatchway's end at the API server (docs/architecture.md, "Decisions"). In
other clusters both use the same protocol, so only the processor time of the clients themselves differs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import os
import re
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml

from bench import peers
from bench.compare import ratio
from bench.doors import PROGRAMS, goal
from bench.proxy_verb import _START
from tests.freeports import free_port

_HTTP, _BULK, _UPGRADE = 8080, 9000, 7000
_NAMES = ("bulk", "short", "parallel", "killed", "restart", "door", "idle")
_AT_ONCE = 50


@dataclass
class Bench:
    """A running cluster with the pod.

    where: options of `hatchway` that name the cluster. kubeconfig: the path of its kubeconfig.
    """

    where: list[str]
    kubeconfig: Path

    def hatchway(self, *words: str) -> list[str]:
        """Return a command line of `hatchway` for this cluster."""
        return [str(PROGRAMS / "hatchway"), *words, "--kubeconfig", str(self.kubeconfig)]

    def kubectl(self, *words: str) -> list[str]:
        """Return a command line of kubectl for this cluster."""
        return [str(PROGRAMS / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words]

    def up(self) -> None:
        """Start the cluster."""
        command = self.hatchway("up", *self.where, "--detach", "--nodes", "1", "--no-addons")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def down(self) -> None:
        """Stop the cluster; its state stays."""
        subprocess.run([str(PROGRAMS / "hatchway"), "down", *self.where], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Bench]:
    """Run a cluster with the pod."""
    where = ["--name", "bench-forward", "--state-dir", str(directory / "state")]
    bench = Bench(where, directory / "kubeconfig")
    port = free_port()
    bench.where += ["--api-port", str(port)]
    bench.up()
    bench.where = where[:4]
    try:
        documents = yaml.safe_dump_all(_objects(1))
        subprocess.run(
            bench.kubectl("apply", "-f", "-"), input=documents, text=True, check=True, stdout=subprocess.DEVNULL
        )
        subprocess.run(
            bench.kubectl("rollout", "status", "deploy/bench", "--timeout=60s"), check=True, stdout=subprocess.DEVNULL
        )
        yield bench
    finally:
        bench.down()


def _objects(replicas: int) -> list[dict[str, Any]]:
    config = peers.backend_config(Path("DIRECTORY"), "ADDRESS", _HTTP, 512)
    program = Path(__file__).with_name("forward_server.py").read_text()
    mounts = [{"name": "config", "mountPath": "/etc/bench"}]
    containers = [
        {
            "name": "http",
            "image": "hatchway/host",
            "command": ["sh", "-c", _START, peers.nginx()],
            "readinessProbe": {"tcpSocket": {"port": _HTTP}, "periodSeconds": 1},
            "volumeMounts": mounts,
        },
        {
            "name": "bulk",
            "image": "hatchway/host",
            "command": ["python3", "/etc/bench/server.py", "0.0.0.0", str(_BULK), str(_UPGRADE)],
            "readinessProbe": {"tcpSocket": {"port": _BULK}, "periodSeconds": 1},
            "volumeMounts": mounts,
        },
    ]
    labels = {"app": "bench"}
    volumes = [{"name": "config", "configMap": {"name": "bench"}}]
    spec = {"containers": containers, "volumes": volumes, "terminationGracePeriodSeconds": 1}
    ports = [
        {"name": name, "port": port, "targetPort": port}
        for name, port in (("http", _HTTP), ("bulk", _BULK), ("upgrade", _UPGRADE))
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "bench"},
            "data": {"nginx.conf": config, "server.py": program},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "bench"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "bench"},
            "spec": {"selector": labels, "ports": ports},
        },
    ]


@dataclass(frozen=True, slots=True)
class Client:
    """A running forward. ports: the local ports of http and bulk. pid: its process ID."""

    ports: dict[int, int]
    pid: int


@contextlib.contextmanager
def forwards(bench: Bench) -> Iterator[dict[str, Client]]:
    """Run both clients."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in ("kubectl", "hatchway"):
            local = {_HTTP: free_port(), _BULK: free_port()}
            pairs = [f"{port}:{remote}" for remote, port in local.items()]
            command = (
                bench.kubectl("port-forward", "svc/bench", *pairs)
                if name == "kubectl"
                else bench.hatchway("forward", "svc/bench", *pairs)
            )
            with open(os.devnull, "w") as nothing:
                process = subprocess.Popen(command, stdout=nothing)
            stack.callback(_end, process)
            for port in local.values():
                peers.wait_for(port, cast(Any, process))
            found[name] = Client(local, process.pid)
        yield found


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait(20)


def _cpu(pid: int, work: Callable[[], float]) -> tuple[float, float]:
    """Return (the result of `work`, the processor time in seconds that the process took meanwhile)."""
    before = peers.cpu_seconds(pid)
    found = work()
    return found, peers.cpu_seconds(pid) - before


def down(port: int, size: int) -> float:
    """Return MB/s of a download. Raises RuntimeError when a part of it does not arrive."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        began = time.monotonic()
        sock.sendall(b"%d\n" % size)
        buffer, got = bytearray(256 * 1024), 0
        while count := sock.recv_into(buffer):
            got += count
    if got != size:
        raise RuntimeError(f"{got} of {size} bytes came")
    return size / (time.monotonic() - began) / 1e6


def up(port: int, size: int) -> float:
    """Return MB/s of an upload. Raises RuntimeError when a part of it does not arrive."""
    piece = bytes(256 * 1024)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        began = time.monotonic()
        sock.sendall(b"take\n")
        for _ in range(size // len(piece)):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        told = sock.recv(100)
    if told != b"%d" % size:
        raise RuntimeError(f"{told!r} of {size} bytes arrived")
    return size / (time.monotonic() - began) / 1e6


def measure_bulk(bench: Bench, rounds: int, _seconds: float) -> None:
    """Print throughput and processor time of both clients."""
    size = 256 << 20
    with forwards(bench) as clients:
        for name, work in (("down", down), ("up", up)):
            rates: dict[str, list[float]] = {client: [] for client in clients}
            spent: dict[str, list[float]] = {client: [] for client in clients}
            for number in range(rounds + 1):
                for client, one in clients.items():
                    rate, cpu = _cpu(one.pid, lambda work=work, one=one: work(one.ports[_BULK], size))  # type: ignore[misc]
                    if number:
                        rates[client].append(rate)
                        spent[client].append(cpu * (1 << 30) / size)
            _print_pair(f"bulk {name}, MB/s", rates, spent, "s of CPU for a GiB")
            goal(f"{name} at least 1.5 x kubectl's", value := ratio(rates["hatchway"], rates["kubectl"]), value >= 1.5)


def _print_pair(what: str, rates: dict[str, list[float]], spent: dict[str, list[float]], unit: str) -> None:
    for client, found in rates.items():
        print(
            f"{what:34}{client:10}{statistics.median(found):10.1f}  ({min(found):.0f}–{max(found):.0f})"
            f"{statistics.median(spent[client]):12.3g} {unit}"
        )


def measure_short(bench: Bench, rounds: int, seconds: float) -> None:
    """Print the rate of new connections of both clients."""
    program = peers.find("wrk")
    if program is None:
        raise SystemExit("wrk is not installed (apt-get install wrk)")
    with forwards(bench) as clients:
        rates: dict[str, list[float]] = {client: [] for client in clients}
        spent: dict[str, list[float]] = {client: [] for client in clients}
        for number in range(rounds + 1):
            for client, one in clients.items():
                command = [program, "-t1", "-c16", f"-d{max(1, round(seconds))}s", "-H", "Connection: close"]

                def run(command: list[str] = command, one: Client = one) -> float:
                    url = f"http://127.0.0.1:{one.ports[_HTTP]}/"
                    text = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
                    return float(cast(re.Match[str], re.search(r"Requests/sec:\s+([0-9.]+)", text))[1])

                rate, cpu = _cpu(one.pid, run)
                if number:
                    rates[client].append(rate)
                    spent[client].append(cpu * 1e6 / max(1.0, rate * max(1, round(seconds))))
        _print_pair("short connections/s", rates, spent, "µs of CPU for one")
        goal("at least 3 x kubectl's", value := ratio(rates["hatchway"], rates["kubectl"]), value >= 3)


def measure_parallel(bench: Bench, _rounds: int, _seconds: float) -> None:
    """Print how many of 180 transfers arrive complete while 20 others are aborted."""
    size, count, aborted = 4 << 20, 200, 20
    for client in ("kubectl", "hatchway"):
        with forwards(bench) as clients:
            port = clients[client].ports[_BULK]
            whole: list[int] = []
            ready = threading.Barrier(count)

            def transfer(
                number: int, port: int = port, whole: list[int] = whole, ready: threading.Barrier = ready
            ) -> None:
                with contextlib.suppress(OSError):
                    ready.wait(30)
                    sock = socket.create_connection(("127.0.0.1", port), 30)
                    sock.settimeout(60)
                    sock.sendall(b"%d\n" % size)
                    got = 0
                    while piece := sock.recv(65536):
                        got += len(piece)
                        if number < aborted and got > size // 8:
                            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                            break
                    sock.close()
                    if number >= aborted and got == size:
                        whole.append(number)

            threads = [threading.Thread(target=transfer, args=(number,)) for number in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(f"{'parallel, whole of 180':34}{client:10}{len(whole):10}")
            if client == "hatchway":
                goal("all 180 arrive whole", len(whole), len(whole) == count - aborted)


def measure_killed(bench: Bench, _rounds: int, seconds: float) -> None:
    """Print how many requests fail, after one retry, while pods are killed."""
    duration = max(20.0, seconds * 30)
    scale = bench.kubectl("scale", "deploy/bench", "--replicas=3")
    subprocess.run(scale, check=True, stdout=subprocess.DEVNULL)
    status = bench.kubectl("rollout", "status", "deploy/bench", "--timeout=60s")
    subprocess.run(status, check=True, stdout=subprocess.DEVNULL)
    with forwards(bench) as clients:
        port = clients["hatchway"].ports[_HTTP]
        stop = threading.Event()
        counts = {"done": 0, "retried": 0, "failed": 0}
        slowest = [0.0]

        def load() -> None:
            while not stop.is_set():
                began = time.monotonic()
                for attempt in range(2):
                    try:
                        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                        connection.request("GET", "/")
                        answer = connection.getresponse()
                        good = answer.status == 200 and len(answer.read()) == 512
                        connection.close()
                    except (OSError, http.client.HTTPException):
                        good = False
                    if good:
                        counts["done"] += 1
                        break
                    counts["failed" if attempt else "retried"] += 1
                slowest[0] = max(slowest[0], time.monotonic() - began)

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        killed = 0
        until = time.monotonic() + duration
        while time.monotonic() < until:
            listing = bench.kubectl(
                "get", "pods", "-l", "app=bench", "-o", "name", "--field-selector=status.phase=Running"
            )
            names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
            if names:
                delete = bench.kubectl("delete", names[0], "--grace-period=0", "--force", "--wait=false")
                subprocess.run(delete, capture_output=True)
                killed += 1
            time.sleep(2)
        stop.set()
        for thread in threads:
            thread.join()
        print(f"killed pods: {killed} in {duration:.0f} s; {counts}; slowest request {slowest[0]:.2f} s")
        goal("no request fails after one retry", counts["failed"], counts["failed"] == 0)
    subprocess.run(bench.kubectl("scale", "deploy/bench", "--replicas=1"), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(status, check=True, stdout=subprocess.DEVNULL)


def measure_restart(bench: Bench, rounds: int, _seconds: float) -> None:
    """Print how much later than a restarted cluster a forward works again."""
    later: list[float] = []
    through_api = _through_api(bench)
    with forwards(bench) as clients:
        port = clients["hatchway"].ports[_HTTP]
        for _ in range(min(rounds, 3)):
            bench.down()
            times: dict[str, float] = {}
            threads = [
                threading.Thread(target=_until_answered, args=(name, ask, times))
                for name, ask in (("cluster", through_api), ("forward", lambda: _get(port)))
            ]
            for thread in threads:
                thread.start()
            bench.up()
            for thread in threads:
                thread.join()
            later.append(times["forward"] - times["cluster"])
    print(f"restarted: a forward answers {[f'{one:.2f}' for one in later]} s after the API server's proxy does")
    goal("at most 2 s later", max(later), max(later) <= 2)


def _until_answered(name: str, ask: Callable[[], bool], times: dict[str, float]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if ask():
                break
        except (OSError, http.client.HTTPException):
            pass  # it does not listen yet
        time.sleep(0.05)
    times[name] = time.monotonic()


def _get(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/")
    return connection.getresponse().status == 200


def _through_api(bench: Bench) -> Callable[[], bool]:
    config = yaml.safe_load(bench.kubeconfig.read_text())
    settings = config["clusters"][0]["cluster"]
    trust = ssl.create_default_context(cadata=base64.b64decode(settings["certificate-authority-data"]).decode())
    command = [str(PROGRAMS / "hatchway"), "token", *bench.where]
    token = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    user = config["users"][0]["user"]
    with tempfile.TemporaryDirectory() as directory:
        if not token:
            pair = [Path(directory) / name for name in ("crt", "key")]
            for path, key in zip(pair, ("client-certificate-data", "client-key-data"), strict=True):
                path.touch(mode=0o600)
                path.write_bytes(base64.b64decode(user[key]))
            trust.load_cert_chain(*pair)
    host, _, port = settings["server"].removeprefix("https://").partition(":")
    path = f"/api/v1/namespaces/default/services/bench:{_HTTP}/proxy/"
    fields = {"Authorization": f"Bearer {token}"} if token else {}

    def ask() -> bool:
        connection = http.client.HTTPSConnection(host, int(port), timeout=5, context=trust)
        connection.request("GET", path, headers=fields)
        return connection.getresponse().status == 200

    return ask


@contextlib.contextmanager
def door(bench: Bench, via: str) -> Iterator[tuple[int, int]]:
    """Run the door; yield its port and its process."""
    port = free_port()
    with open(os.devnull, "w") as nothing:
        process = subprocess.Popen(bench.hatchway("proxy", f"--port={port}", f"--via={via}"), stdout=nothing)
    try:
        peers.wait_for(port, cast(Any, process))
        yield port, process.pid
    finally:
        _end(process)


def measure_door(bench: Bench, rounds: int, seconds: float) -> None:
    """Print the door's requests per second by both routes."""
    with door(bench, "api") as api, door(bench, "forward") as forward, tempfile.TemporaryDirectory() as directory:
        loads: dict[str, list[peers.Load]] = {"api": [], "forward": []}
        for number in range(rounds + 1):
            for name, (port, pid) in (("api", api), ("forward", forward)):
                script = Path(directory) / f"{name}.lua"
                script.write_text(f'wrk.headers["Host"] = "{_HTTP}.bench.default.svc.localhost:{port}"\n')
                load = peers.wrk(f"http://127.0.0.1:{port}/", 32, seconds, pid, script)
                if number:
                    loads[name].append(load)
        for name, found in loads.items():
            rate, cpu = (statistics.median(getattr(load, what) for load in found) for what in ("rate", "cpu"))
            errors = sum(load.errors for load in found)
            print(f"{'door, requests/s':34}{name:10}{rate:10.0f}{cpu:12.3g} µs of CPU for one, {errors} errors")
        value = ratio([load.rate for load in loads["forward"]], [load.rate for load in loads["api"]])
        goal("by port-forward at least 0.8 x by the proxy verb", value, value >= 0.8)


def measure_idle(bench: Bench, _rounds: int, _seconds: float) -> None:
    """Print the door's memory with 5,000 idle WebSockets by port-forward."""
    count = 5000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with door(bench, "forward") as (port, pid):
        before, after = asyncio.run(_idle(port, pid, count))
    print(f"idle: {before:.1f} MB before, {after:.1f} MB with {count} WebSockets")
    goal("at most 60 MB more", after - before, after - before <= 60)


async def _idle(port: int, pid: int, count: int) -> tuple[float, float]:
    from bench.door_websockets import memory

    request = (
        f"GET / HTTP/1.1\r\nHost: {_UPGRADE}.bench.default.svc.localhost:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()

    async def one() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return writer

    first = await one()
    await asyncio.sleep(2)
    before = memory(pid)
    writers = [first]
    while len(writers) < count:
        writers += await asyncio.gather(*(one() for _ in range(min(_AT_ONCE, count - len(writers)))))
    await asyncio.sleep(5)
    after = memory(pid)
    for writer in writers:
        writer.transport.abort()
    return before, after


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=_NAMES, default=list(_NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary, cluster(Path(temporary)) as bench:
        for name in args.only:
            globals()[f"measure_{name}"](bench, args.rounds, args.seconds)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
